"""Save and load a trained model: a reproducible .keras file and its metadata."""

import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import keras

from pipeline.clips.preprocessing import Preprocessing
from pipeline.common.errors import PipelineError, first_line
from pipeline.common.files import (
    read_json,
    replacing_file,
    sha256_of_file,
    sha256_of_json,
    write_json,
)
from pipeline.common.side_inputs import SideInput

# load_model needs these imports: they register layers with Keras.
from pipeline.model import layers as _layers  # noqa: F401
from pipeline.model import side_inputs as _side_inputs  # noqa: F401
from pipeline.model import time_distributed as _time_distributed  # noqa: F401
from pipeline.tasks import caption_decoder as _caption_decoder  # noqa: F401
from pipeline.tasks import heads as _heads  # noqa: F401
from pipeline.tasks.task import Task, task_from_json, task_to_json

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest date of a zip file


@dataclass(frozen=True)
class ModelMetadata:
    """Metadata of a model: models/model.json beside models/model.keras.

    Attributes:
        task: the task, fitted on the training split and calibrated on the validation split.
        preprocessing: settings that convert a video into clips.
        side_inputs: columns that a request gives, and what was learnt about them.
    """

    task: Task
    preprocessing: Preprocessing
    side_inputs: tuple[SideInput, ...] = ()

    def write(self, path: Path) -> None:
        """Write the metadata as JSON."""
        content = {
            "task": task_to_json(self.task),
            "preprocessing": self.preprocessing.to_json(),
            "side_inputs": [one.to_json() for one in self.side_inputs],
        }
        write_json(path, content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file that ``write`` wrote.

        Raises:
            PipelineError: the file is missing, or code with another FRAMES_VERSION wrote it.
        """
        if not path.exists():
            raise PipelineError(f"{path}: no such file. Build it with: dvc repro train")
        content = read_json(path)
        return cls(
            task=task_from_json(content["task"]),
            preprocessing=Preprocessing.from_json(content["preprocessing"]),
            # A version registered by older code has none.
            side_inputs=tuple(map(SideInput.from_json, content.get("side_inputs", ()))),
        )


def save_model(model: keras.Model, path: Path) -> None:
    """Write ``model`` without its optimizer as a .keras file.

    Equal weights give equal bytes: the date and memory addresses that Keras writes are removed.
    So the SHA-256 of the file identifies a model, and DVC does not rerun later stages after a
    training that gave the same weights.
    """
    uncompiled = model.__class__.from_config(model.get_config())
    uncompiled.set_weights(model.get_weights())
    with replacing_file(path.with_suffix(".keras")) as temporary:
        saved = temporary.with_suffix(".keras")  # Keras refuses other suffixes
        try:
            uncompiled.save(saved)
            _copy_reproducibly(saved, temporary)
        finally:
            saved.unlink(missing_ok=True)


def load_model(path: Path) -> keras.Model:
    """Load a file that ``save_model`` wrote, uncompiled.

    Raises:
        PipelineError: the file is missing or is not a model.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, TypeError, ValueError) as error:
        reason = first_line(error)
        raise PipelineError(
            f"{path}: not a Keras model. Expected a file that the train stage wrote. "
            f"Received: {reason}"
        ) from None


def model_digest(model: Path, metadata: Path) -> str:
    """Return the SHA-256 of a model file and its metadata, which identifies a model."""
    return sha256_of_json([sha256_of_file(model), sha256_of_file(metadata)])


def export_saved_model(model: keras.Model, folder: Path) -> None:
    """Write ``model`` as a TensorFlow SavedModel, which needs neither Keras nor this code.

    Its signature ``serving_default`` takes ``frames``, uint8 [N, T, H, W, 3], RGB, ``mask``, bool
    [N, T], True for a real frame, right-padded, and the side inputs ``numbers`` and
    ``categories``; it returns ``output_0``, float32 [N, ...].
    """
    model.export(folder, format="tf_saved_model", verbose=False)


def renumber_shared_objects(config: str) -> str:
    """Replace the memory addresses in a Keras config by 1, 2, ... in order of appearance.

    Equal addresses get equal numbers, so shared objects stay shared.
    """
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f'"shared_object_id": {numbers.setdefault(match[1], len(numbers) + 1)}'

    return re.sub(r'"shared_object_id": (\d+)', number, config)


def _copy_reproducibly(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as saved, zipfile.ZipFile(target, "w") as copy:
        for name in sorted(saved.namelist()):
            content = saved.read(name)
            if name == "metadata.json":
                version = json.loads(content)["keras_version"]
                content = json.dumps({"keras_version": version}).encode()
            elif name == "config.json":
                content = renumber_shared_objects(content.decode()).encode()
            copy.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content, zipfile.ZIP_DEFLATED)

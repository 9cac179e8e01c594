"""A trained classifier on disk: the whole model as a .keras file, the same bytes every time."""

import json
import re
import zipfile
from pathlib import Path

import keras

from pipeline.base.errors import PipelineError
from pipeline.base.files import replacing_file, sha256_of_file, sha256_of_json

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that zip knows


def save_classifier(model: keras.Model, path: Path) -> None:
    """Write ``model`` without its optimizer as a .keras file.

    Keras puts the date and memory addresses into the file; they are taken out, so that the
    same weights give the same bytes and a file's hash identifies a model.
    """
    uncompiled = model.__class__.from_config(model.get_config())
    uncompiled.set_weights(model.get_weights())
    with replacing_file(path.with_suffix(".keras")) as temporary:
        as_keras = temporary.with_suffix(".keras")  # Keras refuses any other ending
        try:
            uncompiled.save(as_keras)
            _copy_without_chance(as_keras, temporary)
        finally:
            as_keras.unlink(missing_ok=True)


def model_digest(model: Path, metadata: Path) -> str:
    """Return the SHA-256 that identifies a model: its weights and what goes with them."""
    return sha256_of_json([sha256_of_file(model), sha256_of_file(metadata)])


def load_classifier(path: Path) -> keras.Model:
    """Load what save_classifier wrote.

    Raises:
        PipelineError: the file is missing or is no model.
    """
    try:
        return keras.models.load_model(path, compile=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise PipelineError(f"{path}: not a model that can be loaded ({reason}).") from None


def export_saved_model(model: keras.Model, folder: Path) -> None:
    """Write ``model`` as a TensorFlow SavedModel, which needs no Keras and no code of ours.

    Its signature ``serving_default`` takes ``frames``, uint8 [N, T, H, W, 3], RGB, and ``mask``,
    bool [N, T], True for a real frame, right-padded; ``output_0`` is float32 [N, C].
    """
    model.export(folder, format="tf_saved_model", verbose=False)


def _copy_without_chance(source: Path, target: Path) -> None:
    with zipfile.ZipFile(source) as saved, zipfile.ZipFile(target, "w") as copy:
        for name in sorted(saved.namelist()):
            content = saved.read(name)
            if name == "metadata.json":
                version = json.loads(content)["keras_version"]
                content = json.dumps({"keras_version": version}).encode()
            elif name == "config.json":
                content = renumber_shared_objects(content.decode()).encode()
            copy.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content, zipfile.ZIP_DEFLATED)


def renumber_shared_objects(config: str) -> str:
    """Replace memory addresses by 1, 2, ... in order of appearance: what is shared stays shared."""
    numbers: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f'"shared_object_id": {numbers.setdefault(match[1], len(numbers) + 1)}'

    return re.sub(r'"shared_object_id": (\d+)', number, config)

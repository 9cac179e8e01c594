"""Read and validate params.yaml.

Each package defines the model of its section; this module composes them. An error names the
dotted key, the rule and the value received.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from pipeline.clips.settings import ExtractSection
from pipeline.common.errors import PipelineError
from pipeline.common.params_text import read_yaml
from pipeline.common.paths import PARAMS, WEIGHTS
from pipeline.common.settings import Section, describe_errors
from pipeline.compute.settings import ComputeSection
from pipeline.dataset.settings import CatalogSection, DataSection
from pipeline.evaluation.settings import EvaluateSection
from pipeline.model.settings import ModelSection, TrainSection, find_contradictions
from pipeline.registry.settings import PromoteSection, RegisterSection
from pipeline.serving.settings import ServeSection
from pipeline.tasks.settings import TaskSection
from pipeline.tracking.settings import TrackingSection
from pipeline.video.settings import DecodeSection


class Params(Section):
    """All sections of params.yaml. A key that is left out has the default of its section."""

    data: DataSection
    catalog: CatalogSection = CatalogSection()
    decode: DecodeSection = DecodeSection()
    extract: ExtractSection = ExtractSection()
    task: TaskSection = TaskSection()
    model: ModelSection = ModelSection()
    train: TrainSection = TrainSection()
    evaluate: EvaluateSection = EvaluateSection()
    register_: RegisterSection = Field(default=RegisterSection(), alias="register")
    promote: PromoteSection = PromoteSection()
    serve: ServeSection = ServeSection()
    tracking: TrackingSection = TrackingSection()
    compute: ComputeSection = ComputeSection()

    def training_params(self) -> dict[str, Any]:
        """Return the sections that decide the model, not how it is judged or stored."""
        sections = {"data", "catalog", "decode", "extract", "task", "model", "train"}
        return self.model_dump(include=sections)


def load_params(path: Path = PARAMS) -> Params:
    """Read and validate ``path``.

    Raises:
        PipelineError: the file is missing, is not YAML, or breaks a rule; one sentence for each
            mistake, with its dotted key and the value received.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        received = type(content).__name__
        raise PipelineError(
            f"{path}: expected sections such as data: and train:. Received: {received}"
        )
    return parse_params(content, source=path)


def parse_params(content: Mapping[str, Any], *, source: Path = PARAMS) -> Params:
    """Validate the content of params.yaml.

    Args:
        content: section -> key -> value.
        source: file name for messages.

    Raises:
        PipelineError: as ``load_params``.
    """
    model = content.get("model")
    if isinstance(model, Mapping) and "motion" in model:  # the key of earlier versions
        raise PipelineError(
            f"{source}: model.motion: unknown key. Set model.streams instead: [frames] for none, "
            "[differences] for difference, [frames, differences] for both"
        )
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        raise PipelineError(f"{source}: {describe_errors(error, Params)}") from None
    if "image_fps" in content.get("decode", {}):
        raise PipelineError(f"{source}: decode.image_fps: unknown key. Set data.image_fps instead")
    decode = params.decode.model_copy(update={"image_fps": params.data.image_fps})
    params = params.model_copy(update={"decode": decode})
    messages = find_contradictions(params.extract, params.model, params.train)
    messages += _check_weights(params.model.cnn.weights)
    if messages:
        raise PipelineError(f"{source}: {'; '.join(messages)}")
    return params


def _check_weights(weights: str) -> list[str]:
    """Refuse a file outside the folder that the train stage depends on.

    DVC would not notice when it changes, and deletes models/ before a training.
    """
    if weights in ("none", "imagenet"):
        return []
    try:
        path = Path(weights).resolve()
        # From Python 3.13 on, a loop of links is resolved to one of its links.
        is_below = path.is_relative_to(WEIGHTS.resolve()) and not path.is_symlink()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a long name or one with NUL
        is_below = False
    if is_below:
        return []
    return [
        f"model.cnn.weights: expected none, imagenet or a file in {WEIGHTS}, on which the train "
        f"stage depends. Received: {weights}. Copy the file into {WEIGHTS} (a link is not "
        f"enough) and run: dvc add {WEIGHTS}/<file>"
    ]

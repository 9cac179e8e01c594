"""The sections ``data`` and ``catalog`` of params.yaml."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from pipeline.common.settings import OpenFraction, Positive, Section, Text

_Kind = Literal["number", "category"]

# A request of a served model has a field of this name, and MLflow logs it as the name of a param.
_NAME = re.compile(r"[\w -]+")
_FOLD = re.compile(r"fold_[0-9]+")
_RESERVED = ("video", "path", "split", "group", "start_seconds", "end_seconds")


def _check_names(columns: dict[str, _Kind]) -> dict[str, _Kind]:
    for name in columns:
        is_reserved = name in _RESERVED or _FOLD.fullmatch(name)
        if not _NAME.fullmatch(name) or name != name.strip() or is_reserved:
            raise ValueError(
                "Names of columns should have letters, digits, spaces, - and _, and differ from "
                f"{', '.join(_RESERVED)}, fold_1, fold_2, ... Received: {name!r}. Rename the "
                "column in the labels table"
            )
    return columns


class DataSection(Section):
    """The videos and their labels.

    Attributes:
        videos: folder of videos, relative to the repository or absolute.
        labels: table of labels, relative to ``videos``. Empty: ``labels.csv`` inside ``videos``
            if that file exists, otherwise one folder per class.
        image_fps: frames per second of a video that is a folder of numbered pictures.
        side_inputs: columns of the table that the model reads beside the video, and their kinds.
    """

    videos: Text
    labels: str = ""
    image_fps: Positive = 10.0
    side_inputs: Annotated[dict[str, _Kind], AfterValidator(_check_names)] = Field(default={})


class CatalogSection(Section):
    """How splits are computed where the labels give none.

    Attributes:
        val_share, test_share: fractions of the videos.
        seed: of the hash that assigns groups to splits.
    """

    val_share: OpenFraction = 0.10
    test_share: OpenFraction = 0.15
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_training_videos(self) -> Self:
        if self.val_share + self.test_share >= 1:
            raise ValueError("val_share + test_share must be below 1, to leave training videos")
        return self

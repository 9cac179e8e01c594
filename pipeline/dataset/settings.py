"""The sections ``data`` and ``catalog`` of params.yaml."""

from typing import Self

from pydantic import model_validator

from pipeline.common.settings import OpenFraction, Positive, Section, Text


class DataSection(Section):
    """The videos and their labels.

    Attributes:
        videos: folder of videos, relative to the repository or absolute.
        labels: table of labels, relative to ``videos``. Empty: ``labels.csv`` inside ``videos``
            if that file exists, otherwise one folder per class.
        image_fps: frames per second of a video that is a folder of numbered pictures.
    """

    videos: Text
    labels: str = ""
    image_fps: Positive = 10.0


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

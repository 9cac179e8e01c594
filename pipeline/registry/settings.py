"""The sections ``register`` and ``promote`` of params.yaml."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import PositiveInt, StringConstraints

from pipeline.common.settings import Finite, NonNegative, Positive, Section, Text


class RegisterSection(Section):
    """Name of the registered model in MLflow."""

    name: Annotated[str, StringConstraints(pattern=r"^[^/:@'\"]+$")] = "video-classifier"


class PromoteSection(Section):
    """What a challenger must show to become champion; see docs/promotion.md.

    Attributes:
        metric: score that champion and challenger are compared by; ``primary`` is the first of the
            task's.
        min_gain: lower end of the interval of the gain must reach it. 0: certainly no worse;
            -0.02: certainly at most that much worse. Errors of a regression are divided by the
            standard deviation of the targets.
        limits: absolute checks by name, in place of the task's own limits.
        too_few_videos: for a class with fewer test videos than a limit can be judged by.
        max_latency_ms: median of a video, on the machine that promotes.
        min_groups: groups of test videos to judge by; a video without a group is one.
    """

    metric: Text = "primary"
    min_gain: Finite = -0.02
    limits: Mapping[str, NonNegative] = {}
    too_few_videos: Literal["warn", "refuse"] = "warn"
    max_latency_ms: Positive = 2000.0
    min_groups: PositiveInt = 10

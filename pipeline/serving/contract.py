"""What a request may hold beside videos, and what whoever serves may set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from pipeline.base.errors import PipelineError


@dataclass(frozen=True)
class RequestOptions:
    """The params of a request.

    top_k: so many of the most probable classes are named; 0: all.
    timeline: also say what is seen in each stretch of the video.
    """

    top_k: int = 0
    timeline: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None) -> Self:
        """Read the params of a request, whose types MLflow has checked.

        Raises:
            PipelineError: top_k is below 0.
        """
        options = cls(**(params or {}))
        if options.top_k < 0:
            raise PipelineError(
                "params.top_k: expected a number from 0 (all classes) up. "
                f"Received: {options.top_k}"
            )
        return options


@dataclass(frozen=True)
class ServingConfig:
    """What whoever loads the model may set: MLflow's ``model_config``, SERVING_MODEL_CONFIG.

    path_root: folder below which requests may name files by path; empty: nowhere.
    timeout_seconds: for decoding one video.
    decoders: processes that decode, so that a video that crashes one harms nothing else;
        0 decodes in the serving process.
    """

    path_root: str = ""
    timeout_seconds: float = 60
    decoders: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any] | None) -> Self:
        """Read what ``to_json`` gave; what is left out is as it is by default."""
        return cls(**(value or {}))


DEFAULTS = ServingConfig()

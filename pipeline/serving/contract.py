"""What a request may hold beside videos, and what whoever serves may set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from pipeline.base.errors import PipelineError
from pipeline.clips.sampling import ClipSpec

MOST_CLIPS = 1000  # of a video: more are not worth the memory of a server


@dataclass(frozen=True)
class RequestOptions:
    """The params of a request.

    top_k: so many of the most probable classes are named; 0: all.
    timeline: also say what is seen in each stretch of the video.
    clips: cut a video that is longer than a clip into at most so many, and average what is said
        of them; 0: as many as in training (``extract.clips_per_video``).
    keep_going: answer a video that cannot be used with ``error``, and the others all the same.
    """

    top_k: int = 0
    timeline: bool = False
    clips: int = 0
    keep_going: bool = False

    @classmethod
    def from_params(cls, params: Mapping[str, Any] | None, *, prefix: str = "params.") -> Self:
        """Read the params of a request, whose types MLflow has checked.

        Args:
            prefix: what stands before a name where it was set, for messages.

        Raises:
            PipelineError: top_k is below 0, or clips is not from 0 to 1000.
        """
        options = cls(**(params or {}))
        if options.top_k < 0:
            raise PipelineError(
                f"{prefix}top_k: expected a number from 0 (all classes) up. "
                f"Received: {options.top_k}"
            )
        if not 0 <= options.clips <= MOST_CLIPS:
            raise PipelineError(
                f"{prefix}clips: expected a number from 0 (as in training) to {MOST_CLIPS}. "
                f"Received: {options.clips}"
            )
        return options

    def applied_to(self, spec: ClipSpec) -> ClipSpec:
        """Return how clips are made for this request by a model that was trained on ``spec``."""
        return replace(spec, clips_per_video=self.clips or spec.clips_per_video)

    def is_as_trained(self, spec: ClipSpec) -> bool:
        """Whether a model trained on ``spec`` sees as many clips of a video as in training."""
        return self.applied_to(spec) == spec

    def to_params(self) -> dict[str, Any]:
        """Return what differs from the default: a model may be older than an option."""
        return {
            name: value for name, value in asdict(self).items() if value != getattr(PLAIN, name)
        }


PLAIN = RequestOptions()


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

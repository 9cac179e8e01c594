"""Predict video files with a model on disk, on the machines of a Ray cluster."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.common.paths import MODEL_METADATA
from pipeline.compute.ray_actors import run_in_actors
from pipeline.compute.settings import ComputeSection
from pipeline.serving.predict import LocalModel, chunks_of, video_requests
from pipeline.serving.request import RequestOptions, ServingConfig, VideoRequest

if TYPE_CHECKING:
    from pipeline.clips.sampling import Clip
    from pipeline.tasks.task import Task

_Answers = list[dict[str, Any]]


class RayModel:
    """A model on disk that Ray actors load; it has the interface of ``LocalModel``."""

    def __init__(self, folder: Path, config: ServingConfig, compute: ComputeSection) -> None:
        """Read ``model.json`` of ``folder``, which the machines of the cluster share."""
        from pipeline.model.saving import ModelMetadata

        metadata = ModelMetadata.read(folder / MODEL_METADATA.name)
        self.task: Task = metadata.task
        self._side_inputs = metadata.side_inputs
        self._folder = folder
        self._config = replace(config, decoders=1)  # of each actor
        self._compute = compute

    def predict(
        self,
        videos: Sequence[Path],
        options: RequestOptions | None = None,
        given: Sequence[Mapping[str, str]] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Yield the answer for each video in order, as ``LocalModel.predict``.

        Raises:
            PipelineError: as ``LocalModel.predict`` and ``run_in_actors``.
        """
        requests = video_requests(videos, given, self._side_inputs)
        prepare = partial(_load, self._folder, self._config, options)
        answers = run_in_actors(prepare, chunks_of(requests), compute=self._compute)
        yield from chain.from_iterable(answers)

    def seen_clips(self, video: Path, options: RequestOptions | None = None) -> "list[Clip]":
        """Return the clips whose outputs the answer combines, as ``LocalModel.seen_clips``."""
        return self._local.seen_clips(video, options)

    @cached_property
    def _local(self) -> LocalModel:
        return LocalModel(self._folder, self._config)


def _load(
    folder: Path, config: ServingConfig, options: RequestOptions | None
) -> Callable[[Sequence[VideoRequest]], _Answers]:
    """Load the model in an actor and return the function that answers a chunk of requests."""
    return partial(LocalModel(folder, config).answer, options=options)

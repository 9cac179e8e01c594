"""Score videos with a model: decode, cut into clips, predict, and form the answers."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.clips.sampling import (
    Clip,
    Window,
    clip_windows,
    make_clip,
    make_clips,
    used_frames,
    windows_over_time,
)
from pipeline.clips.settings import ExtractSection
from pipeline.common.side_inputs import example_values, side_values
from pipeline.model.prediction import batches_of, predict_clips
from pipeline.model.saving import ModelMetadata, load_model
from pipeline.serving.decoding import Decoder
from pipeline.serving.request import RequestOptions, ServingConfig, VideoRequest
from pipeline.video.opening import VideoError

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class _Plan:
    """Windows of one video: those whose outputs are combined, and those of its timeline."""

    clips: Sequence[Window]
    timeline: Sequence[Window]


class Scorer:
    """Answer for videos with one model. Safe to use from several threads."""

    def __init__(self, model: "keras.Model", metadata: ModelMetadata, decoder: Decoder) -> None:
        self._model = model
        self.task = metadata.task
        self.side_inputs = metadata.side_inputs
        self._preprocessing = metadata.preprocessing
        self._decoder = decoder
        self._predicting = threading.Lock()

    @classmethod
    def load(cls, model: Path, metadata: Path, config: ServingConfig) -> Self:
        """Load a ``.keras`` file and its metadata; start the decoder processes.

        Raises:
            PipelineError: a file is missing, or this code decodes other frames than the model
                was trained on.
        """
        content = ModelMetadata.read(metadata)
        decoder = Decoder(
            content.preprocessing.decode,
            timeout_seconds=config.timeout_seconds,
            processes=config.decoders,
        )
        return cls(load_model(model), content, decoder)

    def warm_up(self) -> None:
        """Build the graphs for one clip and for several clips before the first request."""
        decode = self._preprocessing.decode
        frame = np.zeros((1, decode.height, decode.width, 3), np.uint8)
        clip = make_clip(frame, self._preprocessing.extract)
        clip = clip._replace(
            side_inputs=side_values(
                self.side_inputs, example_values(self.side_inputs), where="warm-up"
            )
        )
        for count in (1, 2):
            self._predict([clip] * count)

    def score(
        self, requests: Sequence[VideoRequest], options: RequestOptions
    ) -> list[dict[str, Any]]:
        """Return the answer for each video, in order.

        Returns:
            The fields of ``Task.answer``; ``confident`` (bool) if the model has a threshold and
            the number of clips is that of training; with ``options.timeline`` a list
            ``timeline``: ``start_seconds``, ``end_seconds`` and the ``Task.segment_fields`` of
            each segment. With ``options.keep_going`` also ``error``, None; an unusable video has
            only ``error``, the reason.

        Raises:
            VideoError: a video is unusable, and ``options.keep_going`` is off.
            OSError: the frames cannot be written.
        """
        plans: list[_Plan | VideoError] = []
        select = partial(used_frames, extract=self._extract(options), timeline=options.timeline)
        with closing(self._decoder.frames(requests, select)) as videos:
            clips = self._clips(requests, videos, options, plans)
            outputs: list[NDArray[np.float64]] = []
            for batch in batches_of(clips):
                outputs.extend(self._predict(batch))
        left = iter(outputs)
        return [
            self._answer(plan, request, left, options)
            for plan, request in zip(plans, requests, strict=True)
        ]

    def combined_clips(self, request: VideoRequest, options: RequestOptions) -> list[Clip]:
        """Return the clips whose outputs an answer combines; [] for an unusable video."""
        extract = self._extract(options)
        (frames,) = self._decoder.frames([request], partial(used_frames, extract=extract))
        return [] if isinstance(frames, VideoError) else make_clips(frames, extract)

    def _extract(self, options: RequestOptions) -> ExtractSection:
        extract = self._preprocessing.extract
        clips = options.clips or extract.clips_per_video
        return extract.model_copy(update={"clips_per_video": clips})

    def _clips(
        self,
        requests: Sequence[VideoRequest],
        videos: Iterable[NDArray[np.uint8] | VideoError],
        options: RequestOptions,
        plans: list[_Plan | VideoError],
    ) -> Iterator[Clip]:
        """Yield the clips of all videos and append a plan for each video.

        The clips of a video come first, then those of its timeline.
        """
        extract = self._extract(options)
        for request, frames in zip(requests, videos, strict=True):
            if isinstance(frames, VideoError):
                if not options.keep_going:
                    raise frames
                plans.append(frames)
                continue
            timeline: list[Window] = []
            if options.timeline and not self.task.answers_frames:
                timeline = windows_over_time(len(frames), extract)
            plan = _Plan(clip_windows(len(frames), extract), timeline)
            plans.append(plan)
            for window in (*plan.clips, *plan.timeline):
                clip = make_clip(frames[window.start : window.stop], extract)
                yield clip._replace(side_inputs=request.side_inputs)

    def _predict(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        with self._predicting:
            return predict_clips(self._model, clips)

    def _answer(
        self,
        plan: _Plan | VideoError,
        request: VideoRequest,
        outputs: Iterator[NDArray[np.float64]],
        options: RequestOptions,
    ) -> dict[str, Any]:
        """Return the answer for one video and consume the outputs of its clips."""
        if isinstance(plan, VideoError):
            return {"error": plan.reason}
        clip_outputs = np.stack(list(islice(outputs, len(plan.clips))))
        one_video = np.zeros(len(clip_outputs), np.int64)
        output = self.task.combine_clips(clip_outputs, one_video)[0]
        first = request.segment.start_seconds or 0.0
        answer = self.task.shift_seconds(self.task.answer(output, top_k=options.top_k), first)
        clips_in_training = self._preprocessing.extract.clips_per_video
        if options.clips in (0, clips_in_training):
            confident = self.task.is_confident(output)
            if confident is not None:
                answer["confident"] = confident
        if options.timeline:
            fps = self._preprocessing.decode.fps
            answer["timeline"] = []
            for window, part in self._timeline(plan, output, outputs):
                fields = self.task.answer(part, top_k=options.top_k)
                answer["timeline"].append(
                    {
                        "start_seconds": first + window.start / fps,
                        "end_seconds": first + window.stop / fps,
                        **{name: fields[name] for name in self.task.segment_fields},
                    }
                )
        if options.keep_going:
            answer["error"] = None
        return answer

    def _timeline(
        self,
        plan: _Plan,
        output: NDArray[np.float64],
        outputs: Iterator[NDArray[np.float64]],
    ) -> Iterator[tuple[Window, NDArray[np.float64]]]:
        """Yield the windows of a timeline with their outputs: single frames if those have one."""
        if self.task.answers_frames:
            for frame in range(len(output)):
                yield Window(frame, frame + 1), output[frame : frame + 1]
        else:
            for window in plan.timeline:
                yield window, next(outputs)

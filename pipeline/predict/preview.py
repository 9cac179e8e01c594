"""Film strips of what was classified: the frames that the model saw of each video."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.base.files import replacing_file
from pipeline.clips.metadata import ClipsMetadata
from pipeline.clips.preprocessing import Preprocessing, clips_from_video
from pipeline.predict.outcomes import Outcome
from pipeline.review.strips import Seen, film_strip, strip_sheet
from pipeline.serving.contract import RequestOptions
from pipeline.tracking.loading import Prediction, model_file

logger = logging.getLogger(__name__)

_MOST_VIDEOS = 50  # of one picture


def write_preview(
    outcomes: Sequence[Outcome], *, model_uri: str, options: RequestOptions, path: Path
) -> None:
    """Write one PNG with a film strip for each clip of every video that was classified.

    Raises:
        PipelineError: the model's preprocessing is not that of this code, or a video can no
            longer be read.
    """
    classified = [(one.video, one.prediction) for one in outcomes if one.prediction]
    if not classified:
        logger.warning("%s is not written: no video was classified.", path)
        return
    if len(classified) > _MOST_VIDEOS:
        logger.warning("%s shows the first %d of %d videos.", path, _MOST_VIDEOS, len(classified))
    preprocessing = ClipsMetadata.read(model_file(model_uri, "classifier.json")).preprocessing
    preprocessing = replace(preprocessing, clip=options.applied_to(preprocessing.clip))
    shown = [
        (seen, heading)
        for video, prediction in classified[:_MOST_VIDEOS]
        for seen, heading in _clips(video, prediction, preprocessing)
    ]
    sheet = strip_sheet([film_strip(seen) for seen, _ in shown], [text for _, text in shown])
    with replacing_file(path) as temporary:
        sheet.save(temporary, format="png", optimize=True)
    logger.info("wrote %s", path)


def _clips(
    video: Path, prediction: Prediction, preprocessing: Preprocessing
) -> Iterator[tuple[Seen, str]]:
    clips = clips_from_video(video, preprocessing)
    for number, clip in enumerate(clips, start=1):
        part = f", clip {number} of {len(clips)}" if len(clips) > 1 else ""
        heading = f"{video}{part}: {prediction.label} {prediction.probability:.3f}"
        yield Seen(clip.frames, clip.mask), heading

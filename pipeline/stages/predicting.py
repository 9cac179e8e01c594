"""What a model says of the clips of a split, for every stage and command that asks."""

from typing import TYPE_CHECKING

from pipeline.clips.dataset import FrameOrder
from pipeline.clips.shards import ClipArrays
from pipeline.evaluation.predictions import Predictions
from pipeline.model import task
from pipeline.model.prediction import mean_of_videos, predict_arrays

if TYPE_CHECKING:  # pipeline.model sets up TensorFlow before it is imported
    import keras


def predict(
    model: "keras.Model",
    clips: ClipArrays,
    class_names: tuple[str, ...],
    *,
    frame_order: FrameOrder | None = None,
) -> Predictions:
    """Return what ``model`` says of every video: the mean of what it says of its clips.

    Args:
        frame_order: shows the model the real frames of every clip in another order.
    """
    of_clips = predict_arrays(model, clips, frame_order=frame_order)
    videos = clips.chosen(clips.first_of_videos())
    return Predictions(
        videos=tuple(videos.names),
        groups=tuple(videos.groups),
        labels=task.encode_labels(videos.labels, class_names),
        probabilities=mean_of_videos(of_clips, clips.video_numbers()),
        class_names=class_names,
    )

"""Frame differences as input: what moves, without what stands still."""

from typing import Any, Literal

import keras

from pipeline.model.masking import Shape, TakesMaskByHand

Motion = Literal["none", "difference", "both"]

_STILL = 127.5  # middle of the range of pixels


@keras.saving.register_keras_serializable(package="pipeline")
class FrameDifferences(TakesMaskByHand):
    """Show of each frame how it differs from the one before.

    A difference d of two pixels, -255 to 255, is shown as 127.5 + d / 2, so that it is a picture
    again: grey where nothing moves, and everywhere in the first frame. A clip is padded on the
    right only, so what a real frame is compared with is real.

    Args:
        keep_frames: put the frames themselves before their differences, as more channels.

    Call arguments:
        inputs: [B, T, H, W, C], 0 to 255, of any type.

    Returns:
        float32 [B, T, H, W, C], 0 to 255; [B, T, H, W, 2 C] with ``keep_frames``.
    """

    def __init__(self, *, keep_frames: bool, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})  # a half-precision float rounds pixels
        self.keep_frames = keep_frames

    def call(
        self,
        inputs: keras.KerasTensor,
        mask: keras.KerasTensor | None = None,  # noqa: ARG002
    ) -> keras.KerasTensor:
        frames = keras.ops.cast(inputs, "float32")
        before = keras.ops.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        differences = _STILL + (frames - before) / 2
        if not self.keep_frames:
            return differences
        return keras.ops.concatenate([frames, differences], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        channels = input_shape[-1]
        if self.keep_frames and channels is not None:
            channels *= 2
        return (*input_shape[:-1], channels)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "keep_frames": self.keep_frames}


def input_of_cnn(frames: keras.KerasTensor, *, motion: Motion) -> keras.KerasTensor:
    """Return what the CNN sees of ``frames``: [B, T, H, W, C] or [B, T, H, W, 2 C]."""
    if motion == "none":
        return frames
    return FrameDifferences(keep_frames=motion == "both", name="motion")(frames)

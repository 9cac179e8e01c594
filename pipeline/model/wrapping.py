"""The CNN over the frames of a clip: two ways to write the same computation."""

from functools import reduce
from typing import Any, Literal

import keras

from pipeline.model.freezing import inner_layers
from pipeline.model.time_distributed import TimeDistributed

FEATURES_LAYER = "frame_features"  # its output is what the CNN makes of the frames


def over_frames(
    encoder: keras.Sequential,
    frames: keras.KerasTensor,
    mask: keras.KerasTensor,
    *,
    wrap: Literal["whole", "per_layer"],
) -> keras.KerasTensor:
    """Run ``encoder`` on every real frame of ``frames`` [B, T, H, W, C].

    ``whole`` puts it into one TimeDistributed; ``per_layer`` each of its layers into one of
    its own, so that all appear in the summary of the classifier. The outputs are the same;
    ``per_layer`` is slower, because every layer gathers and scatters the frames again.

    Returns:
        [B, T, ...], zeros where ``mask`` [B, T] is False.
    """
    if wrap == "whole":
        return TimeDistributed(encoder, name=FEATURES_LAYER)(frames, mask=mask)
    last = inner_layers(encoder)[-1]

    def wrapped(layer: keras.Operation, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        if isinstance(layer, keras.Sequential):
            return reduce(lambda steps, inner: wrapped(inner, steps), layer.layers, args[0])
        if isinstance(layer, keras.Model):
            # As calling the model, but with another call of each of its layers.
            return layer._run_through_graph(args, call_fn=wrapped)
        if not isinstance(layer, keras.Layer):
            return layer(*args, **kwargs)  # arithmetic on single numbers: x + 3 in MobileNetV3
        name = FEATURES_LAYER if layer is last else layer.name
        return TimeDistributed(layer, name=name)(*args, mask=mask)

    return wrapped(encoder, frames)

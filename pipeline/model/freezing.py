"""Which layers of a CNN train."""

from collections.abc import Iterable

import keras

from pipeline.base.errors import PipelineError
from pipeline.model.architecture import Trainable


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """Return the layers inside ``layer``, in order, looking into models and TimeDistributed."""
    if isinstance(layer, keras.layers.TimeDistributed):
        return inner_layers(layer.layer)
    if isinstance(layer, keras.Model):
        return [leaf for inner in layer.layers for leaf in inner_layers(inner)]
    return [layer]


def set_trainable(layers: Iterable[keras.Layer], trainable: Trainable) -> None:
    """Let all of ``layers`` train, none, or the last so many that have weights.

    Where not all train, no batch normalisation does, and Keras runs one that does not train
    in inference mode: small batches of video would spoil the statistics that the frozen
    layers rely on. Such layers are not counted.

    Raises:
        PipelineError: there are fewer layers.
    """
    layers = list(layers)
    counted = [layer for layer in layers if layer.weights and not _is_batch_norm(layer)]
    match trainable:
        case "all":
            chosen = layers
        case "none":
            chosen = []
        case number:
            if number > len(counted):
                raise PipelineError(
                    f"model.cnn.trainable: expected all, none or at most {len(counted)}, the "
                    f"number of layers with weights. Received: {number}"
                )
            chosen = counted[-number:]
    trained = {id(layer) for layer in chosen}
    for layer in layers:
        layer.trainable = id(layer) in trained


def _is_batch_norm(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.BatchNormalization)

"""Keras layers and losses at the end of a model, after the clip features."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras

FUSED = "fused"  # output of ``training_model`` for all streams together
FUSION_LAYER = "fusion"
TEMPERATURE_LAYER = "temperature"
THRESHOLDS_LAYER = "thresholds"


@keras.saving.register_keras_serializable(package="pipeline")
class Temperature(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Divide logits by a temperature that is fitted after training.

    A temperature above 1 makes the probabilities more equal, one below 1 less equal; their order
    does not change. The temperature is a non-trainable weight with the initial value 1, so it is
    saved with the model. Source: Guo et al., On Calibration of Modern Neural Networks, 2017,
    arXiv 1706.04599.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:  # noqa: ARG002
        self.temperature = self.add_weight(
            shape=(), initializer="ones", trainable=False, dtype="float32", name="temperature"
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs / self.temperature

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


@keras.saving.register_keras_serializable(package="pipeline")
class StreamFusion(keras.layers.Layer):  # type: ignore[misc]
    """Weighted mean of the outputs of the streams of a model.

    The mean of logits is late fusion by the mean of log-probabilities, up to a constant that
    softmax ignores. The weights are a non-trainable weight [S] with the sum 1, equal before they
    are fitted after training. Source: Simonyan and Zisserman, Two-Stream Convolutional Networks
    for Action Recognition in Videos, 2014, arXiv 1406.2199.

    Args:
        streams: names of the S streams.

    Call arguments:
        inputs: list of S tensors of one shape.
    """

    def __init__(self, streams: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.streams = list(streams)

    def build(self, input_shape: Sequence[Any]) -> None:  # noqa: ARG002
        self.stream_weights = stream_weights_of(self, len(self.streams))

    def call(self, inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        return weighted_sum(self.stream_weights, inputs)

    def compute_output_shape(self, input_shape: Sequence[Any]) -> Any:
        return input_shape[0]

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:  # noqa: ARG002
        return None

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "streams": self.streams}


def stream_weights_of(layer: keras.layers.Layer, n_streams: int) -> keras.Variable:
    """Add the weights of a fusion to ``layer``: float32 [n_streams], equal."""
    return layer.add_weight(
        shape=(n_streams,),
        initializer=keras.initializers.Constant(1 / n_streams),
        trainable=False,
        dtype="float32",
        name="stream_weights",
    )


def weighted_sum(weights: keras.Variable, parts: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
    """Return the sum of tensors of one shape, each times its weight."""
    return sum(weights[number] * part for number, part in enumerate(parts))


def fuse(outputs: Mapping[str, keras.KerasTensor]) -> keras.KerasTensor:
    """Return the weighted mean of the outputs of the streams, by name."""
    fusion = StreamFusion(list(outputs), dtype="float32", name=FUSION_LAYER)
    return fusion(list(outputs.values()))


def training_model(model: keras.Model) -> keras.Model:
    """Return the model from the inputs of ``model`` to the outputs of its streams.

    Of several streams, its outputs are by name of the stream, and ``FUSED`` is their fusion.
    """
    fusion, node = fusion_of(model)
    (outputs,) = node.output_tensors
    if len(fusion.streams) > 1:
        outputs = {**dict(zip(fusion.streams, node.input_tensors, strict=True)), FUSED: outputs}
    training = keras.Model(model.input, outputs, name=model.name)
    training.dtype_policy = model.dtype_policy  # Keras scales the loss if it is mixed_float16
    return training


def fusion_of(model: keras.Model) -> tuple[keras.layers.Layer, Any]:
    """Return the layer that fuses the streams, and the node of its call in ``model``.

    Models that share the layer have other nodes.
    """
    tensor = model.output
    while True:
        layer, number, _ = tensor._keras_history
        node = layer._inbound_nodes[number]
        if layer.name == FUSION_LAYER:
            return layer, node
        tensor = node.input_tensors[0]


def class_logits(clip: keras.KerasTensor, n_classes: int) -> keras.KerasTensor:
    """Return logits float32 [B, n_classes], or of each frame [B, T, n_classes], of features."""
    return keras.layers.Dense(n_classes, dtype="float32", name="classes")(clip)


def class_probabilities(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return class probabilities float32 [B, C], from logits."""
    tempered = Temperature(dtype="float32", name=TEMPERATURE_LAYER)(logits)
    return keras.layers.Activation("softmax", dtype="float32", name="probabilities")(tempered)


@keras.saving.register_keras_serializable(package="pipeline")
class FrameSoftmax(keras.layers.Activation):  # type: ignore[misc]  # Keras has no types
    """Softmax of each frame [B, T, C]; zeros where ``mask`` [B, T] is False.

    So the outputs tell the real frames of a clip from its padding. It is an ``Activation``, which
    Grad-CAM leaves out.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__("softmax", **{key: kwargs[key] for key in kwargs if key != "activation"})

    def call(self, inputs: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
        is_real = keras.ops.cast(mask, "float32")[:, :, None]
        return super().call(inputs) * is_real

    def compute_mask(self, inputs: keras.KerasTensor, mask: object = None) -> None:  # noqa: ARG002
        return None


def frame_probabilities(logits: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
    """Return class probabilities of each frame, float32 [B, T, C], zeros for padding.

    Args:
        logits: of each frame, float32 [B, T, C].
        mask: bool [B, T], True for a real frame.
    """
    tempered = Temperature(dtype="float32", name=TEMPERATURE_LAYER)(logits)
    return FrameSoftmax(dtype="float32", name="probabilities")(tempered, mask=mask)


@keras.saving.register_keras_serializable(package="pipeline")
class Thresholds(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Shift the logit of each label so that its decision threshold is a probability of 0.5.

    A label with the threshold 0.2 gets a probability of 0.5 where it had 0.2. The order of the
    probabilities of a label does not change. The shifts are a non-trainable weight [L], 0 before
    they are fitted.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.logits = self.add_weight(
            shape=(input_shape[-1],),
            initializer="zeros",
            trainable=False,
            dtype="float32",
            name="logits",
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs - self.logits

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape


def label_probabilities(logits: keras.KerasTensor) -> keras.KerasTensor:
    """Return independent label probabilities float32 [B, L] from logits."""
    shifted = Thresholds(dtype="float32", name=THRESHOLDS_LAYER)(logits)
    return keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(shifted)


def temperature_of(model: keras.Model) -> float:
    """Return the temperature of a classifier."""
    return float(model.get_layer(TEMPERATURE_LAYER).temperature)


def set_temperature(model: keras.Model, temperature: float) -> None:
    """Set the temperature of a classifier in place."""
    model.get_layer(TEMPERATURE_LAYER).temperature.assign(temperature)


def set_thresholds(model: keras.Model, thresholds: Sequence[float]) -> None:
    """Set the decision thresholds of the labels, probabilities of length L, in place."""
    logits = [math.log(threshold / (1 - threshold)) for threshold in thresholds]
    model.get_layer(THRESHOLDS_LAYER).logits.assign(logits)


@contextmanager
def without_thresholds(model: keras.Model) -> Iterator[None]:
    """Set the thresholds of ``model`` to 0.5 within the block."""
    logits = model.get_layer(THRESHOLDS_LAYER).logits
    fitted = keras.ops.convert_to_numpy(logits)
    logits.assign(keras.ops.zeros_like(logits))
    try:
        yield
    finally:
        logits.assign(fitted)


@contextmanager
def without_temperature(model: keras.Model) -> Iterator[None]:
    """Set the temperature of ``model`` to 1 within the block."""
    fitted = temperature_of(model)
    set_temperature(model, 1.0)
    try:
        yield
    finally:
        set_temperature(model, fitted)


class WeightedCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Cross-entropy of integer labels and logits [B, C].

    Args:
        class_weights: weight of each class, length C; 1 for the plain cross-entropy.
        label_smoothing: 0 to 1. Keras smooths one-hot labels only.
    """

    def __init__(self, class_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="weighted_crossentropy")
        self._class_weights = list(class_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        one_hot = keras.ops.one_hot(keras.ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        weights = keras.ops.convert_to_tensor(self._class_weights, dtype=y_pred.dtype)
        return keras.ops.sum(one_hot * weights, axis=-1) * keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self._label_smoothing
        )


class WeightedBinaryCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Mean binary cross-entropy of L labels and logits [B, L].

    Args:
        positive_weights: weight of the positives of each label, length L; 1 for the plain
            cross-entropy.
        label_smoothing: 0 to 1.
    """

    def __init__(self, positive_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="weighted_binary_crossentropy")
        self._positive_weights = list(positive_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        y_true = keras.ops.cast(y_true, y_pred.dtype)
        weights = keras.ops.convert_to_tensor(self._positive_weights, dtype=y_pred.dtype)
        weights = y_true * weights + (1 - y_true)
        smoothed = y_true * (1 - self._label_smoothing) + self._label_smoothing / 2
        losses = keras.ops.binary_crossentropy(smoothed, y_pred, from_logits=True)
        return keras.ops.mean(weights * losses, axis=-1)


class StandardisedHuber(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Huber loss of numbers divided by the standard deviation of the training targets."""

    def __init__(self, deviation: float) -> None:
        super().__init__(name="standardised_huber")
        self._deviation = deviation

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        return keras.losses.huber(y_true / self._deviation, y_pred / self._deviation)


class FrameCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Cross-entropy of labels int [B, T] and logits [B, T, C], as a scalar.

    It is the mean over the labelled frames of the batch, 0 without one. The label -1 is an
    unlabelled or a padded frame.

    Args:
        class_weights: length C; 1 for the plain cross-entropy.
        label_smoothing: 0 to 1.
    """

    def __init__(self, class_weights: Sequence[float], label_smoothing: float) -> None:
        super().__init__(name="frame_crossentropy")
        self._class_weights = list(class_weights)
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        ops, n_classes = keras.ops, len(self._class_weights)
        is_labelled = ops.cast(y_true >= 0, y_pred.dtype)
        one_hot = ops.one_hot(ops.maximum(y_true, 0), n_classes, dtype=y_pred.dtype)
        smoothed = one_hot * (1 - self._label_smoothing) + self._label_smoothing / n_classes
        losses = -ops.sum(smoothed * ops.log_softmax(y_pred, axis=-1), axis=-1)
        class_weights = ops.convert_to_tensor(self._class_weights, dtype=y_pred.dtype)
        weights = ops.sum(one_hot * class_weights, axis=-1) * is_labelled
        return ops.sum(losses * weights) / ops.maximum(ops.sum(is_labelled), 1)

    def n_terms(self, y_true: keras.KerasTensor) -> keras.KerasTensor:
        """Return the number of labelled frames, over which ``call`` takes the mean."""
        return keras.ops.sum(keras.ops.cast(y_true >= 0, "int32"))


class FrameAccuracy(keras.metrics.Mean):  # type: ignore[misc]  # Keras has no types
    """Proportion of the labelled frames, those without the label -1, whose class is correct."""

    def update_state(
        self,
        y_true: keras.KerasTensor,
        y_pred: keras.KerasTensor,
        sample_weight: keras.KerasTensor | None = None,  # noqa: ARG002
    ) -> None:
        is_correct = keras.ops.equal(
            keras.ops.cast(y_true, "int64"), keras.ops.argmax(y_pred, axis=-1)
        )
        super().update_state(is_correct, sample_weight=keras.ops.cast(y_true >= 0, "float32"))

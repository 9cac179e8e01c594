"""Tiny classifiers, one of every kind that params.yaml can ask for, and clips for them."""

from dataclasses import replace

import keras
import numpy as np

from pipeline.model.architecture import Architecture, Cnn, Temporal
from pipeline.model.classifier import build_classifier, cnn_layers
from pipeline.model.motion import Motion

N_CLASSES = 3
SMALL = Cnn(filters=[4, 6])
MAPS = replace(SMALL, pooling="none")
MOBILENET = Cnn("MobileNetV2", pooling="average")


def tiny(
    cnn: Cnn = SMALL,
    *,
    frame_features: int = 6,
    l2: float = 0.0,
    motion: Motion = "none",
    **temporal,
) -> Architecture:
    """Without dropout, so that training says the same whatever the shape of the batch is."""
    temporal = Temporal(**{"units": [5], **temporal})
    return Architecture(cnn, frame_features, temporal, dropout=0.0, l2=l2, motion=motion)


ARCHITECTURES = {
    "lstm": tiny(),
    "gru": tiny(recurrent="gru"),
    "stacked_lstm": tiny(units=[6, 5]),
    "bidirectional_lstm": tiny(bidirectional=True),
    "attention": tiny(summary="attention"),
    "stacked_bidirectional_gru_attention": tiny(
        recurrent="gru", units=[6, 5], bidirectional=True, summary="attention"
    ),
    "lstm_mean": tiny(summary="mean"),
    "lstm_conv1d": tiny(summary="conv1d"),
    "mean": tiny(recurrent="none", summary="mean"),
    "conv1d": tiny(recurrent="none", summary="conv1d"),
    "attention_alone": tiny(recurrent="none", summary="attention"),
    "convlstm2d": tiny(MAPS, frame_features=0, recurrent="convlstm2d"),
    "convlstm2d_flatten": tiny(
        MAPS, frame_features=0, recurrent="convlstm2d", map_pooling="flatten"
    ),
    "stacked_bidirectional_convlstm2d_attention": tiny(
        MAPS,
        frame_features=0,
        recurrent="convlstm2d",
        units=[3, 4],
        bidirectional=True,
        summary="attention",
    ),
    "differences": tiny(motion="difference"),
    "frames_and_differences_per_layer": tiny(replace(SMALL, wrap="per_layer"), motion="both"),
    "per_layer": tiny(replace(SMALL, wrap="per_layer")),
    "plain_average_l2": tiny(
        replace(SMALL, batch_norm=False, pooling="average"), frame_features=0, l2=1e-3
    ),
    "mobilenet": tiny(MOBILENET, frame_features=0),
}


def frame_shape(architecture: Architecture) -> tuple[int, int, int]:
    """The smallest frames worth a try: MobileNetV2 takes none below 32 x 32."""
    side = 8 if architecture.cnn.backbone == "small_cnn" else 32
    return (side, side, 3)


def build(architecture: Architecture, *, seed: int = 0, **options) -> keras.Model:
    keras.utils.set_random_seed(seed)
    shape = frame_shape(architecture)
    model = build_classifier(architecture, n_classes=N_CLASSES, frame_shape=shape, **options)
    if architecture.cnn.backbone != "small_cnn":
        settle_batch_norm(model, shape)
    return model


def settle_batch_norm(model: keras.Model, shape: tuple[int, int, int]) -> None:
    """Give batch normalisation the statistics of some noise.

    With those that it starts from, what an untrained deep CNN sees is lost on the way up.
    """
    norms = [layer for layer in cnn_layers(model) if hasattr(layer, "momentum")]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    frames, mask = noise_clips([48], 48, 0, shape)
    model({"frames": frames, "mask": mask}, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def noise_clips(lengths: list[int], n_frames: int, seed: int, shape: tuple[int, int, int]):
    """Clips of random pixels with the given numbers of real frames, and their masks."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((len(lengths), n_frames, *shape), np.uint8)
    mask = np.arange(n_frames) < np.array(lengths)[:, None]
    frames[mask] = rng.integers(0, 256, (mask.sum(), *shape), dtype=np.uint8)
    return frames, mask


def inputs_of(architecture: Architecture, lengths=(2, 4), n_frames=4, seed=0):
    frames, mask = noise_clips(list(lengths), n_frames, seed, frame_shape(architecture))
    return {"frames": frames, "mask": mask}


def train(model: keras.Model, inputs, steps=2) -> list[float]:
    """Return the loss of each step."""
    model.compile(keras.optimizers.Adam(1e-2), model.loss or "sparse_categorical_crossentropy")
    model.run_eagerly = True  # faster than building a graph for two steps
    labels = np.arange(len(inputs["mask"])) % N_CLASSES
    return [float(model.train_on_batch(inputs, labels)) for _ in range(steps)]


def outputs_of(model: keras.Model, inputs) -> np.ndarray:
    model.run_eagerly = True  # as in train
    return np.array(model.predict_on_batch(inputs))

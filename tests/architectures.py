"""Tiny models, one of every kind that params.yaml allows, and clips for them."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import keras
import numpy as np
import pytest

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.sampling import Clip
from pipeline.common.files import write_csv
from pipeline.model.network import build_model, clip_encoders, cnn_layers, features_input
from pipeline.model.settings import CnnSection, ModelSection, TemporalSection
from pipeline.model.streams import streams_of
from pipeline.tasks.caption import Caption
from pipeline.tasks.classification import Classification
from pipeline.tasks.heads import FUSION_LAYER
from pipeline.tasks.task import ClipFeatures, Task
from pipeline.tasks.vocabulary import END

CLASSES = ("a", "b", "c")
TASK = Classification(CLASSES, target_accuracy=0.95)
MOBILENET = CnnSection(backbone="MobileNetV2", pooling="average")


def small(**changes) -> CnnSection:
    return CnnSection(**{"filters": [4, 6], **changes})


def tiny(cnn: CnnSection | None = None, *, frame_features=6, streams=("frames",), **temporal):
    """Without dropout, so that training does not depend on the shape of the batch."""
    return ModelSection(
        streams=list(streams),
        cnn=cnn or small(),
        frame_features=frame_features,
        temporal=TemporalSection(**{"units": [5], **temporal}),
        dropout=0.0,
    )


def tiny_convlstm2d(**changes) -> ModelSection:
    return tiny(small(pooling="none"), frame_features=0, recurrent="convlstm2d", **changes)


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
    "convlstm2d": tiny_convlstm2d(),
    "stacked_bidirectional_convlstm2d_attention": tiny_convlstm2d(
        units=[3, 4], bidirectional=True, summary="attention"
    ),
    "differences": tiny(streams=["differences"]),
    "two_streams": tiny(streams=["frames", "differences"]),
    "two_streams_per_layer": tiny(small(wrap="per_layer"), streams=["frames", "differences"]),
    "per_layer": tiny(small(wrap="per_layer")),
    "average": tiny(small(pooling="average"), frame_features=0),
    "mobilenet": tiny(MOBILENET, frame_features=0),
}

# Together they run every code path of the model; the others combine the same parts.
EVERY_PART = (
    "lstm",
    "stacked_bidirectional_gru_attention",
    "mean",
    "conv1d",
    "stacked_bidirectional_convlstm2d_attention",
    "two_streams_per_layer",
)

every_architecture = pytest.mark.parametrize(
    "name",
    [
        name if name in EVERY_PART else pytest.param(name, marks=pytest.mark.long)
        for name in ARCHITECTURES
    ],
)


def frame_shape(model: ModelSection) -> tuple[int, int, int]:
    """The smallest frames that make sense: MobileNetV2 needs 32 x 32."""
    side = 8 if model.cnn.backbone == "small_cnn" else 32
    return (side, side, 3)


def build(section: ModelSection, *, seed: int = 0, task: Task = TASK, **options) -> keras.Model:
    keras.utils.set_random_seed(seed)
    shape = frame_shape(section)
    model = build_model(section, task, frame_shape=shape, **options)
    if section.cnn.backbone != "small_cnn":
        _settle_batch_norm(model, shape)
    return model


def build_captioner(section: ModelSection) -> keras.Model:
    """Return a model of captions of several words; its decoder has large weights."""
    model = build(section, task=Caption(tuple("abcdefgh"), max_words=4, beam_width=2))
    decoder = model.get_layer(FUSION_LAYER)
    rng = np.random.default_rng(0)
    decoder.set_weights([rng.normal(0, 0.3, weight.shape) for weight in decoder.weights])
    decoder.stream_weights.assign(np.full(len(section.streams), 1 / len(section.streams)))
    for stream in decoder.decoders:
        stream.logits.bias[END].assign(-5.0)
    return model


@cache
def built(name: str) -> keras.Model:
    """Return a model of ARCHITECTURES, the same object in every test: do not change it."""
    return build(ARCHITECTURES[name])


def _settle_batch_norm(model: keras.Model, shape: tuple[int, int, int]) -> None:
    """Give batch normalisation the statistics of noise.

    With its initial statistics, a deep untrained CNN gives the same output for all frames.
    """
    norms = [layer for layer in cnn_layers(model) if hasattr(layer, "momentum")]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    frames, mask = noise_clips([48], 48, 0, shape)
    model({"frames": frames, "mask": mask}, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


def noise_clips(lengths: Sequence[int], n_frames: int, seed: int, shape: tuple[int, int, int]):
    """Frames of random pixels and masks, with the given numbers of real frames."""
    rng = np.random.default_rng(seed)
    frames = np.zeros((len(lengths), n_frames, *shape), np.uint8)
    mask = np.arange(n_frames) < np.array(lengths)[:, None]
    frames[mask] = rng.integers(0, 256, (mask.sum(), *shape), dtype=np.uint8)
    return frames, mask


def inputs_of(section: ModelSection, lengths=(2, 4), n_frames=4, seed=0):
    frames, mask = noise_clips(lengths, n_frames, seed, frame_shape(section))
    return {"frames": frames, "mask": mask}


def clips_of(section: ModelSection, lengths=(2, 4), n_frames=4, seed=0) -> list[Clip]:
    inputs = inputs_of(section, lengths, n_frames, seed)
    return [Clip(*pair) for pair in zip(inputs["frames"], inputs["mask"], strict=True)]


def stored_clips(folder: Path, frames, mask, targets: Sequence[str], *, shards=1) -> ClipArrays:
    """Store clips in shards of the same size, as the extract stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    in_shard = len(targets) // shards
    for shard in range(shards):
        part = slice(shard * in_shard, (shard + 1) * in_shard)
        np.save(folder / f"{shard:02d}.frames.npy", frames[part])
        np.save(folder / f"{shard:02d}.mask.npy", mask[part])
    rows = [
        {"name": f"{index:03d}.mp4", "target": target, "group": "", "frames": mask[index].sum(),
         "shard": index // in_shard, "row": index % in_shard}
        for index, target in enumerate(targets)
    ]  # fmt: skip
    write_csv(folder / "clips.csv", list(rows[0]), rows)
    return ClipArrays(folder)


def train(model: keras.Model, inputs) -> float:
    """Train one step, and return its loss."""
    model.compile(keras.optimizers.Adam(1e-2), model.loss or "sparse_categorical_crossentropy")
    model.run_eagerly = True  # faster than building a graph for one step
    labels = np.arange(len(inputs["mask"])) % len(CLASSES)
    return float(model.train_on_batch(inputs, labels))


def outputs_of(model: keras.Model, inputs) -> np.ndarray:
    return np.array(model(inputs, training=False))


def head_model(task: Task) -> keras.Model:
    """The head of a task as a model of one clip feature vector of width 4."""
    clip = keras.Input((4,), name="clip")
    output = task.stream_head(ClipFeatures(clip=clip, steps=None, mask=None))
    return keras.Model(clip, task.head({"frames": output}, None))


def layer_of(model: keras.Model, name: str) -> keras.Layer:
    """The layer of this name of a model with one stream."""
    (stream,) = streams_of(model).values()
    return stream.get_layer(name)


def only_encoder(model: keras.Model) -> keras.Model:
    """The clip encoder of a model with one stream."""
    (encoder,) = clip_encoders(model).values()
    return encoder


def head_inputs(model: keras.Model, inputs) -> dict:
    """The inputs of ``clip_head`` for the clips of ``inputs``."""
    clips = {name: inputs[name] for name in ("frames", "mask")}
    features = {
        features_input(stream): outputs_of(encoder, clips)
        for stream, encoder in clip_encoders(model).items()
    }
    return {**features, **{name: inputs[name] for name in inputs if name != "frames"}}

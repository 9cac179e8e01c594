"""Compare an epoch on cached features of a frozen MobileNetV2 with one on frames.

`python -m benchmarks.features` makes clips of noise (T=16, 112x112, 0.7 real frames on
average) in a temporary folder and fits MobileNetV2 with an LSTM, as train does: once with the
CNN run on the real frames in every epoch, once on features that are computed once. The last
line is JSON: `cached_epoch_speedup` is the ratio of the medians of the epochs but the first;
`cache_epochs` is how many epochs on frames it takes to compute the features.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.made_clips import made_clips
from pipeline.base.command import run_command
from pipeline.clips.shards import ClipArrays
from pipeline.model.architecture import Architecture, Cnn
from pipeline.model.augmentation import UNCHANGED
from pipeline.model.classifier import build_classifier
from pipeline.model.features import cached_features
from pipeline.model.training import FitOptions, fit, make_deterministic

_CLIPS, _N_FRAMES, _SIDE, _SHARE = 48, 16, 112, 0.7
_EPOCHS_ON_FRAMES, _EPOCHS_ON_FEATURES = 3, 9
_ARCHITECTURE = Architecture(
    Cnn("MobileNetV2", trainable="none", pooling="average"), frame_features=0
)


class _EpochSeconds(keras.callbacks.Callback):  # type: ignore[misc]  # Keras does not type it
    """Times the training of an epoch with its validation."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:  # noqa: ARG002
        self.seconds.append(time.perf_counter() - self._started)


def main() -> None:
    make_deterministic(0, threads=2)
    with tempfile.TemporaryDirectory(prefix="features-") as folder:
        clips = made_clips(
            Path(folder) / "clips", clips=_CLIPS, n_frames=_N_FRAMES, side=_SIDE, share=_SHARE
        )
        features = Path(folder) / "features"
        on_frames = _epoch_seconds(clips, None, _EPOCHS_ON_FRAMES)
        started = time.perf_counter()
        cached_features(_model(clips), clips, features)
        computing = time.perf_counter() - started
        on_features = _epoch_seconds(clips, features, _EPOCHS_ON_FEATURES)
    print(
        f"an epoch on frames: {1000 * on_frames:.0f} ms; on features: {1000 * on_features:.0f} ms"
    )
    report = {
        "cached_epoch_speedup": round(on_frames / on_features, 2),
        "cache_epochs": round(computing / on_frames, 2),
    }
    print(json.dumps(report))


def _model(clips: ClipArrays) -> keras.Model:
    keras.utils.set_random_seed(0)
    return build_classifier(
        _ARCHITECTURE, n_classes=len(set(clips.labels)), frame_shape=(_SIDE, _SIDE, 3)
    )


def _epoch_seconds(clips: ClipArrays, features: Path | None, epochs: int) -> float:
    """Return the median of all epochs but the first, which builds the graph."""
    options = FitOptions(
        seed=0,
        epochs=epochs,
        batch_size=8,
        learning_rate=1e-3,
        clip_norm=1.0,
        patience=epochs,
        class_weights="none",
        augmentation=UNCHANGED,
    )
    timer = _EpochSeconds()
    names = sorted(set(clips.labels))
    result = fit(
        _model(clips), clips, clips, names, options, callbacks=[timer], features_folder=features
    )
    if not np.isfinite(result.history[-1]["loss"]):
        raise SystemExit(f"expected a finite loss, received {result.history[-1]}")
    return statistics.median(timer.seconds[1:])


if __name__ == "__main__":
    run_command(main)

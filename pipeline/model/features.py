"""A cache of the frame features of a frozen CNN on disk.

::

    data/features/<CNN>/<shard>.npy      float [n, T, ...], zeros for padding
    data/features/<CNN>/<shard>.sha256   SHA-256 of that file

Both names are digests: of the layers and weights of the CNN, and of the frames and masks of a
shard. So no outdated file is read, and one more video costs the features of one shard. The folder
may be deleted at any time.
"""

import hashlib
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.clips.arrays import ClipArrays, Shard, ShardKey
from pipeline.common.files import create_array, replacing_file, sha256_of_file, sha256_of_json
from pipeline.common.side_inputs import SideArrays
from pipeline.model.network import clip_encoders, features_input
from pipeline.model.prediction import clips_per_batch
from pipeline.model.saving import renumber_shared_objects

logger = logging.getLogger(__name__)

_FORMAT = 1  # of the files; part of their names


class FeatureArrays:
    """Frame features of the clips of one split, with the interface of their frames.

    Attributes:
        names, targets: names and targets of the clips.
    """

    def __init__(
        self, clips: ClipArrays, features: dict[str, dict[ShardKey, NDArray[np.floating]]]
    ) -> None:
        """Join clips with their features: name of the input of ``clip_head`` -> shard -> array."""
        self.names, self.targets = clips.names, clips.targets
        self._clips, self._features = clips, features

    def __len__(self) -> int:
        return len(self._clips)

    def frame_inputs(self, index: int) -> dict[str, NDArray[np.floating]]:
        """Return the frame features float [T, ...] of one clip by input, zeros for padding."""
        shard, row = self._clips.position(index)
        return {name: by_shard[shard][row] for name, by_shard in self._features.items()}

    def side_arrays(self) -> SideArrays:
        """Return the side inputs, as ``ClipArrays.side_arrays``."""
        return self._clips.side_arrays()

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return the mask bool [T] of one clip, True for a real frame."""
        return self._clips.mask(index)


def cached_features(
    model: keras.Model,
    clips: ClipArrays,
    folder: Path,
    *,
    digests: Mapping[ShardKey, str] | None = None,
    is_verified: bool = False,
) -> FeatureArrays:
    """Return the frame features of ``clips``; compute those that are not in the cache.

    Args:
        model: a model whose CNNs are frozen.
        folder: folder of the cache, such as data/features.
        digests: of the shards, if they are known.
        is_verified: whether the files in the cache are known to be intact.
    """
    shards = clips.shards()
    if digests is None:
        digests = {key: shard.digest() for key, shard in shards.items()}
    features = {}
    for stream, encoder in clip_encoders(model).items():
        encoder_folder = folder / encoder_digest(encoder)
        paths = {key: encoder_folder / f"{digests[key]}.npy" for key in shards}
        missing = [
            key
            for key, path in paths.items()
            if not (path.exists() if is_verified else _is_intact(path))
        ]
        logger.info(
            "Features of the frozen CNN of %s: computing %d of %d shards",
            stream,
            len(missing),
            len(paths),
        )
        for key in tqdm(missing, desc="features", unit="shard", disable=None):
            _write(paths[key], encoder, shards[key])
        features[features_input(stream)] = {
            key: np.load(path, mmap_mode="r") for key, path in paths.items()
        }
    return FeatureArrays(clips, features)


def encoder_digest(encoder: keras.Model) -> str:
    """Return the SHA-256 of the layers and weights of ``encoder``, frozen or not."""
    # Keras numbers unnamed layers across models. Replace these names by the position of the layer.
    numbers: dict[str, int] = {}
    for layer in encoder._flatten_layers():
        numbers.setdefault(layer.name, len(numbers) + 1)

    def number(match: re.Match[str]) -> str:
        return f'"layer {numbers[match[1]]}"' if match[1] in numbers else match[0]

    layers = re.sub(r'"([^"\\]+)"', number, renumber_shared_objects(encoder.to_json()))
    layers = re.sub(r'"trainable": (true|false)', "", layers)
    # Of batch normalisation in a training with replicas; it does not change features.
    layers = layers.replace('"synchronized": true', '"synchronized": false')
    weights = [
        [
            str(weight.dtype),
            list(weight.shape),
            hashlib.sha256(np.ascontiguousarray(weight).tobytes()).hexdigest(),
        ]
        for weight in encoder.weights
    ]
    return sha256_of_json([_FORMAT, keras.__version__, layers, weights])


def _write(path: Path, encoder: keras.Model, shard: Shard) -> None:
    """Write the features of a shard, computed in batches: a shard may exceed the memory."""
    n_clips, n_frames = shard.mask.shape
    batch_size = clips_per_batch(n_frames)
    with replacing_file(path) as temporary:
        features: np.memmap[Any, np.dtype[np.floating]] | None = None
        for start in range(0, n_clips, batch_size):
            rows = slice(start, start + batch_size)
            batch = {"frames": shard.frames[rows], "mask": shard.mask[rows]}
            part = np.asarray(encoder.predict_on_batch(batch))
            if part.dtype.kind != "f":  # bfloat16, which .npy files do not support
                part = part.astype(np.float32)
            if features is None:
                features = create_array(temporary, part.dtype, (n_clips, *part.shape[1:]))
            features[rows] = part
        assert features is not None, "a shard has at least one clip"
        features.flush()
        digest = sha256_of_file(temporary)
    with replacing_file(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(digest + "\n", encoding="ascii")


def _is_intact(path: Path) -> bool:
    digest = path.with_suffix(".sha256")
    if not (path.exists() and digest.exists()):
        return False
    is_intact = digest.read_text(encoding="ascii", errors="replace").strip() == sha256_of_file(path)
    if not is_intact:
        logger.warning("%s: the file is damaged. Computing its features again.", path)
    return is_intact

"""What a frozen CNN makes of the clips: computed once, kept on disk.

::

    data/features/<CNN>/<shard>.npy      float [n, T, ...], zeros for padding
    data/features/<CNN>/<shard>.sha256   of that file, to notice damage

Both names are digests: of the layers and weights of the CNN, and of the frames and masks of a
shard. Another CNN or other clips have other names, so nothing stale is ever read, and one more
video costs the features of one shard. The folder may be deleted at any time.
"""

import hashlib
import logging
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.base.files import replacing_file, sha256_of_file, sha256_of_json
from pipeline.clips.shards import ClipArrays, Shard, ShardKey
from pipeline.model.classifier import clip_encoder, cnn_layers
from pipeline.model.saving import renumber_shared_objects

logger = logging.getLogger(__name__)

_FORMAT = 1  # another number, other digests: for changes of what a file holds
_CLIPS_AT_ONCE = 8


class FeatureArrays:
    """The features of the clips of one split, in place of their frames.

    Attributes:
        input_name: of the model that reads them, ``clip_head``.
        names, labels: as those of the clips.
    """

    input_name = "features"

    def __init__(self, clips: ClipArrays, by_shard: dict[ShardKey, NDArray[np.floating]]) -> None:
        self.names, self.labels = clips.names, clips.labels
        self._clips, self._by_shard = clips, by_shard

    def __len__(self) -> int:
        return len(self._clips)

    def frames(self, index: int) -> NDArray[np.floating]:
        """Return float [T, ...], zeros where the mask is False."""
        shard, row = self._clips.position(index)
        features: NDArray[np.floating] = self._by_shard[shard][row]
        return features

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return bool [T], True for a real frame."""
        return self._clips.mask(index)

    def masks(self) -> NDArray[np.bool_]:
        """Return bool [N, T], True for a real frame."""
        return self._clips.masks()


def is_frozen(model: keras.Model) -> bool:
    """Whether nothing in the CNN of a classifier trains."""
    return not any(layer.trainable_weights for layer in cnn_layers(model))


def cached_features(model: keras.Model, clips: ClipArrays, folder: Path) -> FeatureArrays:
    """Return what the CNN of ``model`` makes of ``clips``; compute what ``folder`` has not.

    Args:
        model: a classifier whose CNN is frozen.
        folder: of the cache, such as data/features.
    """
    encoder = clip_encoder(model)
    of_cnn = folder / encoder_digest(encoder)
    shards = clips.shards()
    paths = {key: of_cnn / f"{shard.digest()}.npy" for key, shard in shards.items()}
    missing = [key for key, path in paths.items() if not _is_whole(path)]
    logger.info("Features of the frozen CNN: %d of %d shards computed", len(missing), len(paths))
    for key in tqdm(missing, desc="features", unit="shard", disable=None):
        _write(paths[key], encoder, shards[key])
    return FeatureArrays(clips, {key: np.load(path, mmap_mode="r") for key, path in paths.items()})


def encoder_digest(encoder: keras.Model) -> str:
    """Return the SHA-256 of the layers of ``encoder`` and of their weights."""
    layers = _renumber_layers(renumber_shared_objects(encoder.to_json()), encoder)
    weights = [
        [str(weight.dtype), list(weight.shape), _sha256(np.ascontiguousarray(weight))]
        for weight in encoder.weights
    ]
    return sha256_of_json([_FORMAT, keras.__version__, layers, weights])


def _renumber_layers(config: str, model: keras.Model) -> str:
    """Replace the names of layers by numbers: Keras counts unnamed ones up from model to model."""
    numbers: dict[str, int] = {}
    for layer in model._flatten_layers():
        numbers.setdefault(layer.name, len(numbers) + 1)

    def number(match: re.Match[str]) -> str:
        return f'"layer {numbers[match[1]]}"' if match[1] in numbers else match[0]

    return re.sub(r'"([^"\\]+)"', number, config)


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _write(path: Path, encoder: keras.Model, shard: Shard) -> None:
    """Compute a shard a few clips at a time, so that its size does not matter."""
    n_clips = len(shard.mask)
    with replacing_file(path) as temporary:
        features: np.memmap[Any, np.dtype[np.floating]] | None = None
        for start in range(0, n_clips, _CLIPS_AT_ONCE):
            rows = slice(start, start + _CLIPS_AT_ONCE)
            batch = {"frames": shard.frames[rows], "mask": shard.mask[rows]}
            part = _storable(encoder.predict_on_batch(batch))
            if features is None:
                features = np.lib.format.open_memmap(
                    temporary, "w+", part.dtype, (n_clips, *part.shape[1:])
                )
            features[rows] = part
        assert features is not None, "a shard has a clip"
        features.flush()
        digest = sha256_of_file(temporary)
    with replacing_file(path.with_suffix(".sha256")) as temporary:
        temporary.write_text(digest + "\n", encoding="ascii")


def _storable(features: NDArray[np.floating]) -> NDArray[np.floating]:
    """Numpy's files know float16 but not bfloat16, which fits into float32 without loss."""
    array = np.asarray(features)
    return array if array.dtype.kind == "f" else array.astype(np.float32)


def _is_whole(path: Path) -> bool:
    digest = path.with_suffix(".sha256")
    if not (path.exists() and digest.exists()):
        return False
    is_whole = digest.read_text(encoding="ascii", errors="replace").strip() == sha256_of_file(path)
    if not is_whole:
        logger.warning("%s: damaged; its features are computed again.", path)
    return is_whole

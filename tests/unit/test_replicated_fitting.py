"""What decides whether a training continues from a checkpoint."""

import numpy as np
import pytest

from pipeline.model.replicated_fitting import Training
from pipeline.model.settings import TrainSection
from tests.architectures import TASK
from tests.replica_trainings import MODEL, clips_in


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("array", ["frames", "mask"])
def test_other_pixels_are_another_training(tmp_path, split, array):
    for name in ("train", "val"):
        clips_in(tmp_path / name)
    training = Training(MODEL, TrainSection(), TASK, (), tmp_path)
    before = training.digest([], training.shard_digests())
    assert training.digest([], training.shard_digests()) == before
    path = tmp_path / split / f"00.{array}.npy"
    content = np.load(path)
    content.flat[0] ^= 1
    np.save(path, content)
    assert training.digest([], training.shard_digests()) != before

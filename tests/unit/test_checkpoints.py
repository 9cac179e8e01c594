"""A training that continues from its checkpoint ends with the weights of one without a break."""

import os
import shutil
import signal

import keras
import numpy as np
import pytest

from pipeline.common.errors import PipelineError
from pipeline.common.files import replacing_file
from pipeline.model.checkpoints import Checkpoint, CheckpointFile
from pipeline.model.fitting import fit
from pipeline.model.settings import AugmentationSection, FineTuningSection, TrainSection
from tests.architectures import CLASSES, TASK, build, noise_clips, stored_clips, tiny

MODEL = tiny(recurrent="none", summary="mean")
KINDS = {
    "augmented": {"augmentation": AugmentationSection(shift=0)},
    "best epoch, rate halved after a plateau": {
        "schedule": "reduce_on_plateau",
        "patience": 4,
        "learning_rate": 0.05,
    },
    "two phases": {"fine_tuning": FineTuningSection(head_epochs=2, learning_rate=0.01)},
}

pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture
def clips(tmp_path):
    frames, mask = noise_clips([1, 2, 3, 4, 4, 4, 3], 4, 0, (8, 8, 3))
    return stored_clips(tmp_path / "clips", frames, mask, [*CLASSES * 2, "a"])


class Break(keras.callbacks.Callback):
    """Raises KeyboardInterrupt in the middle of an epoch, from 1."""

    def __init__(self, epoch):
        super().__init__()
        self._epoch, self._is_now = epoch, False

    def on_epoch_begin(self, epoch, logs=None):  # noqa: ARG002
        self._is_now = epoch + 1 == self._epoch

    def on_train_batch_end(self, batch, logs=None):  # noqa: ARG002
        if self._is_now:
            raise KeyboardInterrupt


def train(clips, section, *, path=None, training="a", callbacks=()):
    model, reported = build(MODEL), []
    file = path and CheckpointFile(
        path, training, is_writer=True, report=lambda rows: reported.append(len(rows))
    )
    result = fit(model, TASK, clips, clips, section, checkpoints=file, callbacks=callbacks)
    return model.get_weights(), result, reported


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("epoch", [2, pytest.param(4, marks=pytest.mark.long)])
def test_the_weights_after_a_break_are_those_without(clips, tmp_path, kind, epoch):
    section = TrainSection(**{"epochs": 5, "batch_size": 3, "patience": 0, **KINDS[kind]})
    weights, result, _ = train(clips, section)
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(KeyboardInterrupt):
        train(clips, section, path=path, callbacks=[Break(epoch)])
    assert len(Checkpoint.read(path, "a").history) == epoch - 1
    assert Checkpoint.read(path, "b") is None
    continued, result_after, reported = train(clips, section, path=path)
    assert reported[0] == epoch - 1
    for one, other in zip(continued, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert result_after == result


def test_a_checkpoint_of_another_training_is_not_used(clips, tmp_path):
    section, path = TrainSection(epochs=1, batch_size=3), tmp_path / "checkpoint.npz"
    train(clips, section, path=path)
    *_, reported = train(clips, section, path=path, training="b")
    assert reported == [0, 1]


def with_other_bit(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


DAMAGES = {
    "empty": lambda content: b"",  # noqa: ARG005
    "only the start": lambda content: content[:100],
    "without the end": lambda content: content[:-1000],
    "a bit of an array": lambda content: with_other_bit(content, len(content) // 2),
    "the bit that says encrypted": lambda content: with_other_bit(
        content, content.rindex(b"PK\1\2") + 8
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_not_used(clips, tmp_path, caplog, damage):
    section, path = TrainSection(epochs=1, batch_size=3), tmp_path / "checkpoint.npz"
    train(clips, section, path=path)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    assert Checkpoint.read(path, "a") is None
    *_, reported = train(clips, section, path=path)
    assert reported == [0, 1]
    assert f"{path}: the checkpoint is damaged" in caplog.text
    assert CheckpointFile(path, "a", is_writer=False, report=list).last is not None


def test_a_checkpoint_that_the_disk_cannot_read_is_an_error_and_kept(tmp_path):
    """It may be intact when the disk is back."""
    path = tmp_path / "checkpoint.npz"
    path.symlink_to("/proc/self/mem")  # the first page of a process cannot be read: EIO
    with pytest.raises(PipelineError, match=r"checkpoint\.npz: Input/output error\. .* delete"):
        CheckpointFile(path, "a", is_writer=False, report=list)


def test_what_a_killed_process_wrote_of_a_checkpoint_is_removed(tmp_path):
    path = tmp_path / "checkpoint.npz"
    dead = os.fork()
    if not dead:
        with replacing_file(path) as temporary:
            temporary.write_text("half of a checkpoint")
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(dead, 0)
    assert len(list(tmp_path.iterdir())) == 1
    CheckpointFile(path, "a", is_writer=False, report=list)
    assert len(list(tmp_path.iterdir())) == 1
    CheckpointFile(path, "a", is_writer=True, report=list)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_read_different_checkpoints_do_not_train(clips, tmp_path):
    section, path = TrainSection(epochs=2, batch_size=3), tmp_path / "checkpoint.npz"
    train(clips, section, path=path)
    file = CheckpointFile(path, "a", is_writer=True, report=list)
    file.require_agreement(lambda own: [own, own])
    for other in ([0, 0], [1, 5], [2, 5]):
        with pytest.raises(PipelineError, match=rf"checkpoint\.npz: .* Received: 2, {other[0]}\."):
            file.require_agreement(lambda own, other=other: [own, other], max_reads=1)


def test_a_process_that_reads_an_old_file_reads_again(clips, tmp_path):
    section, path = TrainSection(epochs=2, batch_size=3), tmp_path / "checkpoint.npz"
    train(clips, section, path=tmp_path / "new.npz")
    file = CheckpointFile(path, "a", is_writer=False, report=list)
    n_read = []

    def gathered(own):
        """The other process has read two epochs; this one sees the new file after it."""
        n_read.append(own[0])
        shutil.copy(tmp_path / "new.npz", path)
        return [own, [2, own[1]]]

    file.require_agreement(gathered)
    assert n_read == [0, 2]
    assert file.last is not None
    assert len(file.last.history) == 2


def test_a_complete_training_is_not_repeated(clips, tmp_path):
    section, path = TrainSection(epochs=2, batch_size=3), tmp_path / "checkpoint.npz"
    weights, result, _ = train(clips, section, path=path)
    again, result_again, reported = train(clips, section, path=path)
    assert reported == [2]
    assert result_again == result
    for one, other in zip(again, weights, strict=True):
        np.testing.assert_array_equal(one, other)

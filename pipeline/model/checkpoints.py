"""A checkpoint after every epoch: a training that continues from it ends with the same weights.

::

    models/checkpoint.npz    "state": JSON as bytes
                             "variables/0", ..., "optimizer/0", ..., "kept/0", ...: arrays

The file is written atomically, and removed at the end of the training. A damaged one is not used.
One that the disk cannot read is an error: it may be intact.
"""

import errno
import hashlib
import io
import json
import logging
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from pipeline.common.errors import PipelineError
from pipeline.common.files import remove_leftovers, replacing_file

logger = logging.getLogger(__name__)

History = list[dict[str, float]]

# Attributes of callbacks that change in an epoch: of EarlyStopping, KeptEpoch, ReduceLROnPlateau.
_STATE = (
    "best",
    "best_epoch",
    "wait",
    "stopped_epoch",
    "cooldown_counter",
    "_last_epoch",
    "_is_broken",
)
_ARRAYS = ("variables", "optimizer", "kept")

# Errors of damaged content. RuntimeError: a damaged bit marks the archive as encrypted.
_DAMAGE = (zipfile.BadZipFile, EOFError, KeyError, RuntimeError, ValueError)

# NFS may show an old folder for 60 seconds (acdirmax); the workers start again within seconds.
_MAX_READS = 25
_READ_SECONDS = 3.0  # between two reads


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after an epoch.

    Attributes:
        training: digest that identifies the training.
        phase: number of the phase, from 0.
        first_epoch: epoch with which the phase began, from 0.
        is_stopped: whether the phase ended before its last epoch.
        history: a row for each epoch of the training; see ``FitResult``.
        callbacks: state of each callback, in order.
        variables: of the model: weights and states of random numbers.
        optimizer: variables of the optimizer.
        kept: weights of the best epoch; empty if there is none.
    """

    training: str
    phase: int
    first_epoch: int
    is_stopped: bool
    history: History
    callbacks: list[dict[str, float]]
    variables: list[NDArray[Any]]
    optimizer: list[NDArray[Any]]
    kept: list[NDArray[Any]]

    def write(self, path: Path) -> None:
        """Write the checkpoint in place of the one before."""
        state = {key: value for key, value in vars(self).items() if key not in _ARRAYS}
        arrays = {
            f"{name}/{number}": array
            for name in _ARRAYS
            for number, array in enumerate(getattr(self, name))
        }
        content = np.frombuffer(json.dumps(state).encode(), np.uint8)
        with replacing_file(path) as temporary, temporary.open("wb") as file:
            np.savez(file, state=content, **arrays)

    @classmethod
    def read(cls, path: Path, training: str) -> "Checkpoint | None":
        """Read the file that ``write`` wrote for this training; None if there is none.

        A damaged file counts as none, with a warning.

        Raises:
            PipelineError: the disk cannot read the file.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):  # the second one: replaced, on NFS
                return None
            raise PipelineError(
                f"{path}: {error.strerror}. Expected a readable file. Run the stage again when the "
                "file can be read, or delete the file to begin the training anew."
            ) from None
        try:
            return cls._from_bytes(content, training)
        except _DAMAGE as error:
            logger.warning(
                "%s: the checkpoint is damaged (%s). The training begins anew.", path, error
            )
            return None

    @classmethod
    def _from_bytes(cls, content: bytes, training: str) -> "Checkpoint | None":
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            state: dict[str, Any] = json.loads(file["state"].tobytes())
            if state["training"] != training:
                return None
            arrays: dict[str, Any] = {
                name: [
                    file[f"{name}/{number}"]
                    for number in range(sum(key.startswith(f"{name}/") for key in file.files))
                ]
                for name in _ARRAYS
            }
        return cls(**state, **arrays)


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint, and what a killed process wrote of one."""
    path.unlink(missing_ok=True)
    remove_leftovers(path)


@dataclass
class CheckpointFile:
    """Where a training writes its checkpoints, and from where it continues.

    Attributes:
        path: of the file; every process of the training reads the same.
        training: digest that identifies the training.
        is_writer: whether this process writes it; one process does.
        report: called with the history after every epoch, and at the start.
        last: the checkpoint from which the training continues; None once it has.
    """

    path: Path
    training: str
    is_writer: bool
    report: Callable[[History], None]
    last: Checkpoint | None = field(init=False)

    def __post_init__(self) -> None:
        if self.is_writer:
            remove_leftovers(self.path)
        self.last = Checkpoint.read(self.path, self.training)

    def require_agreement(
        self,
        gathered: Callable[[Sequence[int]], list[list[int]]],
        *,
        max_reads: int = _MAX_READS,
    ) -> None:
        """Check that all processes of the training continue from the same checkpoint.

        A process that sees an old file in a shared folder reads it again.

        Args:
            gathered: of the ``Replicas`` of the training.
            max_reads: of each process, with the one at its start.

        Raises:
            PipelineError: a process reads another checkpoint, or none. All processes raise it.
        """
        # A number of reads, not a deadline: gathered() waits until every process calls it.
        for read in range(1, max_reads + 1):
            history = self.last.history if self.last else []
            digest = hashlib.sha256(json.dumps(history).encode()).digest()
            states = gathered([len(history), int.from_bytes(digest[:7], "big")])
            if all(state == states[0] for state in states):
                return
            epochs = ", ".join(str(n) for n, _ in states)
            if read == 1:
                logger.warning(
                    "%s: the workers read checkpoints of %s epochs. They read again.",
                    self.path,
                    epochs,
                )
            if read < max_reads:
                time.sleep(_READ_SECONDS)
                self.last = Checkpoint.read(self.path, self.training)
        raise PipelineError(
            f"{self.path}: the workers read different checkpoints. Expected the same number of "
            f"complete epochs in each. Received: {epochs}. The shared folder shows some machines "
            "an old file for too long. Look at how they mount it (for NFS: acregmax, acdirmax), "
            "then run the stage again; or delete the file to begin the training anew."
        )


class WriteCheckpoint(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
    """Continue from a checkpoint of this phase, and write one after every epoch.

    It comes after the callbacks that change the logs or whose state it writes.

    Args:
        file: of the checkpoints.
        phase, first_epoch: as in ``Checkpoint``.
        history: rows of the epochs before this phase.
        stateful: callbacks whose state belongs to the checkpoint; the first is ``KeptEpoch``.
    """

    def __init__(
        self,
        file: CheckpointFile,
        *,
        phase: int,
        first_epoch: int,
        history: History,
        stateful: Sequence[keras.callbacks.Callback],
    ) -> None:
        super().__init__()
        self._file, self._phase, self._first_epoch = file, phase, first_epoch
        self._history, self._stateful = list(history), stateful

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        last, self._file.last = self._file.last, None
        if last is not None:
            self.model.optimizer.build(self.model.trainable_variables)
            for variables, values in (
                (self.model.variables, last.variables),
                (self.model.optimizer.variables, last.optimizer),
            ):
                for variable, value in zip(variables, values, strict=True):
                    variable.assign(value)
            for callback, state in zip(self._stateful, last.callbacks, strict=True):
                vars(callback).update(state)
            self._stateful[0].best_weights = last.kept or None
        if self._file.is_writer:
            self._file.report(self._history)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        self._history.append({"epoch": epoch + 1, **row})
        if not self._file.is_writer:
            return
        Checkpoint(
            training=self._file.training,
            phase=self._phase,
            first_epoch=self._first_epoch,
            is_stopped=bool(self.model.stop_training),
            history=self._history,
            callbacks=[
                {
                    name: value if isinstance(value, int) else float(value)
                    for name in _STATE
                    if (value := vars(one).get(name)) is not None
                }
                for one in self._stateful
            ],
            variables=[variable.numpy() for variable in self.model.variables],
            optimizer=[variable.numpy() for variable in self.model.optimizer.variables],
            kept=list(self._stateful[0].best_weights or ()),
        ).write(self._file.path)
        self._file.report(self._history)

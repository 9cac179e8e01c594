"""Replicas of a model: the weights of one device, and the parts of Keras that are replaced."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.tensorflow import trainer as keras_trainer

from pipeline.clips.batches import Shares, evaluation_batches, share_of, training_batches
from pipeline.common.errors import PipelineError
from pipeline.model.optimization import ReplicatedAdam, ReplicatedAdamW
from pipeline.model.settings import TrainSection
from pipeline.model.strategy import GlobalMean, Replicas, ReplicatedModel
from tests.unit.test_batches import TARGETS, NumberedClips, batches_of, order_of

REPLICAS = 3


def run_trainings(folder: Path, kind: str) -> Path:
    """Return the results of tests/replica_trainings.py, which needs a process of its own."""
    command = [sys.executable, "-m", "tests.replica_trainings", str(folder), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return run_trainings(tmp_path_factory.mktemp("trained"), "quick")


@pytest.fixture(scope="module")
def trained_long(tmp_path_factory) -> Path:
    return run_trainings(tmp_path_factory.mktemp("trained_long"), "long")


def both(folder: Path, name: str):
    """Start, end and history of a training, on one device and on two."""
    for devices in (1, 2):
        (path,) = folder.glob(f"*/{name}_{devices}.npz")
        with np.load(path) as file:
            start, end = (
                np.concatenate([file[key].ravel() for key in file.files if key.startswith(part)])
                for part in ("start_", "end_")
            )
            yield start, end, json.loads(str(file["history"]))


def check_weights(folder: Path, name: str, *, tolerance: float) -> None:
    (start, one, _), (_, two, _) = both(folder, name)
    assert np.abs(one - start).max() > 100 * tolerance
    assert np.abs(one - two).max() <= tolerance


def check_equal(folder: Path, name: str, *, tolerance: float) -> None:
    check_weights(folder, name, tolerance=tolerance)
    (_, _, one_history), (_, _, two_history) = both(folder, name)
    assert [list(row) for row in one_history] == [list(row) for row in two_history]
    for one_row, two_row in zip(one_history, two_history, strict=True):
        assert two_row == pytest.approx(one_row, abs=10 * tolerance)


@pytest.mark.long
def test_two_devices_gather_a_row_each(trained):
    assert json.loads((trained / "gathered.json").read_text()) == [[2, 1 << 55], [2, 1 << 55]]


@pytest.mark.long
def test_two_devices_give_the_weights_and_metrics_of_one(trained):
    """Two streams, class weights, label smoothing, batch normalisation, an uneven last batch."""
    check_equal(trained, "sgd", tolerance=1e-5)


@pytest.mark.long
def test_adam_w_clips_the_gradient_of_the_whole_batch(trained):
    check_equal(trained, "adam_w", tolerance=1e-4)


@pytest.mark.long
def test_all_gpus_of_a_machine_give_the_weights_and_metrics_of_one_device(tmp_path):
    """``compute.gpus: all``, as the train stage passes it on."""
    check_equal(run_trainings(tmp_path, "all_gpus"), "all_gpus", tolerance=1e-5)
    assert "multiple of 2" in (tmp_path / "all_gpus/refused.txt").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert "compute.gpus is all, but TensorFlow sees no GPU" in log
    assert "Training with 2 replicas of the model on CPU:0, CPU:1\n" in log


@pytest.mark.long
def test_a_frozen_phase_on_cached_features_is_shared_too(trained_long):
    # Its last batch, of one clip, is repeated on both devices, so that the metrics differ.
    check_weights(trained_long, "phases", tolerance=1e-5)


@pytest.mark.long
def test_the_loss_of_frames_is_the_mean_over_the_labelled_frames_of_all_shares(trained_long):
    check_equal(trained_long, "frames", tolerance=1e-5)


@pytest.mark.long
def test_batch_normalisation_of_keras_applications_sees_all_shares(trained_long):
    # One step: rounding grows through 52 normalisations of few frames.
    (start, one, _), (_, two, _) = both(trained_long, "mobilenet")
    assert np.abs(one - two).max() < 0.01 * np.abs(one - start).max()


@pytest.mark.long
def test_half_precision_trains_on_replicas(trained_long):
    for start, end, history in both(trained_long, "half"):
        assert np.isfinite(end).all()
        assert np.abs(end - start).max() > 0
        assert np.isfinite(history[0]["val_loss"])


@pytest.mark.parametrize("make", [training_batches, evaluation_batches])
@pytest.mark.parametrize("batch_size", [3, 5])
def test_shares_together_are_the_batches_of_one_process(make, batch_size):
    seed = {"seed": 4} if make is training_batches else {}
    whole = batches_of(make(NumberedClips(), TARGETS, batch_size=batch_size, **seed))
    shares = [
        iter(
            make(
                NumberedClips(),
                TARGETS,
                batch_size=batch_size,
                shares=Shares(first, 1, REPLICAS),
                **seed,
            ).as_numpy_iterator()
        )
        for first in range(REPLICAS)
    ]
    for _, _, expected in whole:
        parts = [next(share)[1].tolist() for share in shares]
        if len(expected) < REPLICAS:  # the last of ten clips in batches of three
            assert parts == [expected.tolist()] * REPLICAS
        else:
            assert [target for part in parts for target in part] == expected.tolist()
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_a_process_with_two_replicas_reads_their_shares_in_turn():
    dataset = evaluation_batches(
        NumberedClips(), TARGETS, batch_size=6, shares=Shares(1, 2, REPLICAS)
    )
    assert [list(targets) for *_, targets in batches_of(dataset)] == [[2, 3], [4, 5], [7], [8, 9]]


def test_a_small_batch_is_repeated_equally():
    shares = [share_of(np.arange(2), replica, 3).tolist() for replica in range(3)]
    assert sorted(index for share in shares for index in share) == [0, 0, 0, 1, 1, 1]
    assert {len(share) for share in shares} == {2}


def test_the_orders_of_epochs_are_those_of_fit_also_from_a_later_one():
    """Keras creates two iterators in each epoch, and each has an order of its own."""
    seen = []

    class Recorded(keras.Model):
        def train_step(self, data):
            seen.append(data[1].numpy().tolist())
            return {"loss": tf.zeros(())}

    model = Recorded()
    model.compile(optimizer="sgd", run_eagerly=True)
    model.fit(training_batches(NumberedClips(), TARGETS, batch_size=4, seed=2), epochs=3, verbose=0)

    def shared(first_epoch):
        dataset = training_batches(
            NumberedClips(),
            TARGETS,
            batch_size=4,
            seed=2,
            shares=Shares(0, 1, 1),
            first_epoch=first_epoch,
        )
        steps = 3 * (3 - first_epoch)
        return [targets.tolist() for _, targets in dataset.take(steps).as_numpy_iterator()]

    assert shared(0) == seen
    assert shared(2) == seen[6:]


def test_the_order_of_an_endless_dataset_has_every_clip_in_each_epoch():
    dataset = training_batches(
        NumberedClips(), TARGETS, batch_size=5, seed=0, shares=Shares(0, 1, 1)
    )
    order = order_of(batches_of(dataset.take(4)))
    assert sorted(order[:10]) == sorted(order[10:]) == list(range(10))


class Three:
    """A strategy with three replicas, which needs no devices."""

    num_replicas_in_sync = 3


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("batch_size", 16, r"multiple of 3.* Received: 16"),
        ("precision", "mixed_float16", r"float32 or mixed_bfloat16 .* Received: mixed_float16"),
    ],
)
def test_settings_with_which_replicas_cannot_train_are_refused_by_key(key, value, expected):
    section = TrainSection(**{"batch_size": 15, key: value})
    with pytest.raises(PipelineError, match=rf"train\.{key} must be .*{expected}"):
        Replicas(Three()).check(section)


def test_the_mean_outside_of_replicas_is_that_of_the_loss():
    loss = keras.losses.MeanSquaredError()
    true, predicted = tf.constant([[1.0], [2.0], [4.0]]), tf.constant([[1.0], [1.0], [1.0]])
    assert float(GlobalMean(loss)(true, predicted)) == pytest.approx(float(loss(true, predicted)))


# What strategy.py and optimization.py replace in Keras. After an update that fails here, compare
# the replacements with the new code of Keras.


def parameters(function) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_keras_still_has_the_methods_that_are_replaced():
    build = keras.Model._maybe_symbolic_build
    assert parameters(build) == ["self", "iterator", "data_batch"]
    assert parameters(ReplicatedModel._maybe_symbolic_build) == parameters(build)
    assert parameters(keras_trainer._collective_all_reduce_multi_worker) == ["strategy"]
    assert "data_batch" in parameters(keras.Model._symbolic_build)
    assert "_collective_all_reduce_multi_worker(strategy)" in inspect.getsource(
        keras_trainer.reduce_per_replica
    )
    assert "self._maybe_symbolic_build(iterator=" in inspect.getsource(
        keras_trainer.TensorFlowTrainer.fit
    )


@pytest.mark.parametrize("optimizer", [ReplicatedAdam, ReplicatedAdamW])
def test_keras_still_clips_before_it_adds_the_gradients_of_replicas(optimizer):
    base = optimizer.__mro__[2]
    assert parameters(base._clip_gradients) == ["self", "grads"]
    assert parameters(base._all_reduce_sum_gradients) == ["self", "grads_and_vars"]
    source = inspect.getsource(base._backend_apply_gradients)
    assert source.rindex("self._clip_gradients(") < source.rindex("self._backend_update_step(")
    assert "self._all_reduce_sum_gradients(" in inspect.getsource(base._backend_update_step)

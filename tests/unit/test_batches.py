import numpy as np

from pipeline.clips.batches import evaluation_batches, training_batches

LENGTHS = [5, 1, 4, 1, 3, 2, 5, 2, 1, 4]
TARGETS = np.arange(10)


class NumberedClips:
    """Step t of clip n is n + t / 10."""

    def __len__(self):
        return len(LENGTHS)

    def side_arrays(self):
        return {}

    def mask(self, index):
        return np.arange(8) < LENGTHS[index]

    def frame_inputs(self, index):
        steps = self.mask(index) * (index + np.arange(8) / 10)
        return {"frames": steps[:, None].astype(np.float32)}


def batches_of(dataset):
    return [
        (inputs["frames"], inputs["mask"], targets)
        for inputs, targets in dataset.as_numpy_iterator()
    ]


def order_of(batches):
    return [int(target) for *_, targets in batches for target in targets]


def training(seed=0, augment=None):
    return training_batches(NumberedClips(), TARGETS, batch_size=3, seed=seed, augment=augment)


def test_every_clip_comes_once_an_epoch_with_its_mask_and_target():
    batches = batches_of(training())
    assert [len(targets) for *_, targets in batches] == [3, 3, 3, 1]
    assert sorted(order_of(batches)) == list(range(10))
    for features, mask, targets in batches:
        for row, target in enumerate(targets):
            assert (features[row] == NumberedClips().frame_inputs(target)["frames"]).all()
            assert mask[row].sum() == LENGTHS[target]


def test_epochs_differ_and_seeds_repeat():
    dataset = training()
    first, second = order_of(batches_of(dataset)), order_of(batches_of(dataset))
    assert first != second
    assert order_of(batches_of(training())) == first
    assert order_of(batches_of(training(seed=1))) != first


def test_augmentation_gets_another_seed_for_every_clip_and_epoch():
    def augment(frames, mask, target, seed):  # noqa: ARG001
        return frames, seed

    dataset = training(seed=7, augment=augment)
    seeds = [tuple(seed) for _ in range(2) for *_, seeds in batches_of(dataset) for seed in seeds]
    assert len(set(seeds)) == 20
    assert {first for first, _ in seeds} == {7}


def test_evaluation_keeps_the_order_of_the_clips():
    batches = batches_of(evaluation_batches(NumberedClips(), TARGETS, batch_size=4))
    assert order_of(batches) == list(range(10))


def test_another_frame_order_moves_real_frames_only():
    dataset = evaluation_batches(
        NumberedClips(),
        TARGETS,
        batch_size=10,
        frame_order=lambda _, n_real: np.arange(n_real)[::-1],
    )
    ((features, mask, _),) = batches_of(dataset)
    np.testing.assert_allclose(features[4, :, 0], [4.2, 4.1, 4.0, 0, 0, 0, 0, 0], rtol=1e-6)
    assert mask[4].tolist() == [True] * 3 + [False] * 5


def test_targets_may_be_arrays():
    targets = np.arange(20, dtype=np.float32).reshape(10, 2)
    batches = batches_of(evaluation_batches(NumberedClips(), targets, batch_size=10))
    assert (batches[0][2] == targets).all()

import numpy as np
import pytest

from pipeline.clips.dataset import training_dataset

LENGTHS = [5, 1, 4, 1, 3, 2, 5, 2, 1, 4]


class NumberedClips:
    """Clip number n says n in every real step."""

    input_name = "features"

    def __init__(self, lengths):
        self._lengths = lengths

    def __len__(self):
        return len(self._lengths)

    def mask(self, index):
        return np.arange(8) < self._lengths[index]

    def frames(self, index):
        return (self.mask(index) * (1.0 + index))[:, None].astype(np.float32)

    def masks(self):
        return np.stack([self.mask(index) for index in range(len(self))])


def batches(epochs=1, seed=0, *, lengths=LENGTHS, trim=True):
    clips, labels = NumberedClips(lengths), np.arange(len(lengths))
    dataset = training_dataset(clips, labels, batch_size=3, seed=seed, trim=trim)
    return [
        [
            (inputs["features"], inputs["mask"], labels)
            for inputs, labels in dataset.as_numpy_iterator()
        ]
        for _ in range(epochs)
    ]


every_seed = pytest.mark.parametrize("seed", range(8))  # some move the short batch forward


@every_seed
def test_every_clip_comes_once_whole_and_right(seed):
    (epoch,) = batches(seed=seed)
    assert sorted(np.concatenate([labels for _, _, labels in epoch])) == list(range(10))
    for steps, mask, labels in epoch:
        for row, label in enumerate(labels):
            assert mask[row].sum() == LENGTHS[label]
            np.testing.assert_array_equal(steps[row, mask[row], 0], [1.0 + label] * LENGTHS[label])


@every_seed
def test_a_batch_is_as_long_as_its_longest_clip(seed):
    for steps, mask, labels in batches(seed=seed)[0]:
        longest = max(LENGTHS[label] for label in labels)
        assert steps.shape[1] == mask.shape[1] == longest


@every_seed
def test_clips_of_like_length_share_a_batch(seed):
    # Sorted, nine of the lengths are 1 1 1 | 2 2 3 | 4 5 5: batches of 1, 3 and 5 steps.
    (epoch,) = batches(seed=seed, lengths=LENGTHS[:9])
    assert sorted(mask.shape[1] for _, mask, _ in epoch) == [1, 3, 5]


def test_epochs_differ_and_seeds_repeat():
    def order(epoch):
        return [label for _, _, labels in epoch for label in labels]

    first, second = map(order, batches(epochs=2))
    assert first != second
    assert order(batches()[0]) == first
    assert order(batches(seed=1)[0]) != first


@pytest.mark.parametrize("trim", [False, True])
def test_without_trimming_batches_keep_their_length(trim):
    steps = {mask.shape[1] for _, mask, _ in batches(trim=trim)[0]}
    assert (steps == {8}) == (not trim)

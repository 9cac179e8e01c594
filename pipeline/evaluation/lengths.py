"""Does the length of a clip tell its class? Where it does, a model can do without the pictures."""

import logging
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier

logger = logging.getLogger(__name__)

_CLIPS_OF_A_LEAF = 3  # at least: one odd clip makes no rule


@dataclass(frozen=True)
class LabelledLengths:
    """What the audit sees of the clips of a split.

    frames: int64 [N], real frames of each clip.
    labels: int64 [N], index of its class.
    """

    frames: NDArray[np.int64]
    labels: NDArray[np.int64]


def accuracy_length_only(train: LabelledLengths, test: LabelledLengths) -> float:
    """Return the test accuracy of a classifier that sees only the number of real frames.

    It is a decision tree fitted on the training clips, whose rules are ranges of lengths with
    at least three clips each; of classes that are equally frequent in a range it takes the
    first. With nothing to learn it names the most frequent class.
    """
    tree = DecisionTreeClassifier(min_samples_leaf=_CLIPS_OF_A_LEAF, random_state=0)
    tree.fit(train.frames[:, None], train.labels)
    return float(np.mean(tree.predict(test.frames[:, None]) == test.labels))


def most_frequent_accuracy(train: LabelledLengths, test: LabelledLengths) -> float:
    """Return the test accuracy of always naming the most frequent class of training."""
    return float(np.mean(test.labels == np.bincount(train.labels).argmax()))


def warn_if_length_tells(
    train: LabelledLengths, test: LabelledLengths, *, accuracy: float, margin: float
) -> None:
    """Warn where lengths alone come within ``margin`` of the ``accuracy`` of the model.

    Not where they say no more than how frequent the classes are: then the model is weak, and
    the lengths are not to blame.
    """
    of_lengths = accuracy_length_only(train, test)
    if of_lengths <= most_frequent_accuracy(train, test) or of_lengths < accuracy - margin:
        return
    logger.warning(
        "Length tells the class: the number of real frames alone has accuracy %.3f, the model "
        "%.3f (evaluate.length_margin: %g). The model may look at nothing else. Give all clips "
        "the same length: a smaller extract.frames, or videos of like length.",
        of_lengths,
        accuracy,
        margin,
    )

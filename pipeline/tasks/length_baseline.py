"""The answers of a model that sees only the number of frames of each clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import BaseCrossValidator, GroupKFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

MAX_FOLDS = 5

_MIN_CLIPS_PER_LEAF = 3  # so that single clips are not memorised


def predict_from_lengths(
    frames: NDArray[np.int64],
    answers: NDArray[Any],
    groups: Sequence[str],
    *,
    folds: BaseCrossValidator | None = None,
) -> NDArray[Any]:
    """Return the answers [clips] of a decision tree, each leaf of which is a range of lengths.

    Cross-validated by group over all clips, because a test split alone has few.

    Args:
        frames: int64 [clips], number of real frames.
        answers: [clips], numbers as floats; anything else is a class.
        groups: group of each clip.
        folds: five folds by group by default.
    """
    tree_type = DecisionTreeRegressor if answers.dtype.kind == "f" else DecisionTreeClassifier
    predicted: NDArray[Any] = cross_val_predict(
        tree_type(min_samples_leaf=_MIN_CLIPS_PER_LEAF, random_state=0),
        frames[:, None],
        answers,
        groups=groups,
        cv=folds or GroupKFold(min(MAX_FOLDS, len(set(groups)))),
    )
    return predicted

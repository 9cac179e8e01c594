"""Table of a multi-label model: labels that occur together."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.tasks.task import Table

_MAX_PAIRS = 10  # in the table


def co_occurrence_table(
    actual: NDArray[np.bool_], predicted: NDArray[np.bool_], label_names: Sequence[str]
) -> Table:
    """Return the ten pairs of labels that occur together most often, actual and predicted.

    Args:
        actual, predicted: bool [N, L].
    """
    both_actual, both_predicted = (
        side.T.astype(np.int64) @ side.astype(np.int64) for side in (actual, predicted)
    )
    first, second = np.triu_indices(len(label_names), k=1)
    counts = both_actual[first, second]
    order = [index for index in np.argsort(-counts, kind="stable")[:_MAX_PAIRS] if counts[index]]
    return Table(
        name="co_occurrence",
        title="Labels that occur together",
        columns=["label", "other", "videos", "predicted"],
        rows=[
            {
                "label": label_names[first[index]],
                "other": label_names[second[index]],
                "videos": str(counts[index]),
                "predicted": str(both_predicted[first[index], second[index]]),
            }
            for index in order
        ],
    )

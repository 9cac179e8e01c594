"""All checks, in the order of the table."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.datacheck.dataset import DataSet
from pipeline.datacheck.drift import check_drift
from pipeline.datacheck.finding import Finding, Threshold
from pipeline.datacheck.labels import (
    check_balance,
    check_contradictions,
    check_duplicates,
    check_new_classes,
    check_relabelled,
    check_spelling,
    check_splits,
    check_vanished_classes,
)


@dataclass(frozen=True)
class CheckRules:
    """The section ``data_check`` of params.yaml."""

    balance: Threshold
    drift: Threshold
    duplicates: Threshold
    new_classes: Threshold
    relabelled: Threshold
    vanished_classes: Threshold


def check_data(now: DataSet, before: DataSet | None, rules: CheckRules) -> Iterator[Finding]:
    """Yield what is found.

    Args:
        now: at least one row.
        before: what the champion was trained on; None: there is no champion, or it is not
            known, and only what needs no comparison is checked.
    """
    yield check_spelling(now)
    yield check_splits(now)
    yield check_contradictions(now)
    yield check_duplicates(now, rules.duplicates)
    if before is None:
        return
    yield check_new_classes(now, before, rules.new_classes)
    yield check_vanished_classes(now, before, rules.vanished_classes)
    yield check_balance(now, before, rules.balance)
    yield check_relabelled(now, before, rules.relabelled)
    yield from check_drift(now, before, rules.drift)

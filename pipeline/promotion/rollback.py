"""Back to the champion before, or further."""

from mlflow.entities.model_registry import ModelVersion

from pipeline.base.errors import PipelineError
from pipeline.promotion.champions import (
    champion_number,
    crown,
    existing_version,
    read_records,
    shown_version,
)
from pipeline.promotion.history import Record, succession
from pipeline.promotion.locks import one_at_a_time
from pipeline.tracking.aliases import CHAMPION
from pipeline.tracking.store import shown_uri


def roll_back(name: str, *, reason: str, version: int | None = None) -> Record:
    """Give the alias ``champion`` back to the version that had it before.

    Args:
        name: of the registered model.
        reason: is recorded.
        version: one that was champion earlier; without it, the one before.

    Raises:
        PipelineError: there is nothing to go back to, the version was never champion, was
            deleted, or the champion changes meanwhile.
    """
    with one_at_a_time(name, "champion"):
        champion = champion_number(name)
        line = succession(read_records(name), champion)
        former = line if champion is None else line[:-1]
        target = _target(name, former, champion=champion, version=version)
        return crown(name, target, expected=champion, action="rolled back", reason=reason)


def _target(
    name: str, former: list[int], *, champion: int | None, version: int | None
) -> ModelVersion:
    if not former:
        raise PipelineError(
            f"MLflow at {shown_uri()}: nothing to roll back to, "
            + (
                f"{name} never had a {CHAMPION}. Make one with: make promote"
                if champion is None
                else f"version {champion} of {name} is the first {CHAMPION}."
            )
        )
    number = former[-1] if version is None else version
    choices = sorted({*former} - {number})
    others = (
        f"Others that were champion: {', '.join(map(str, choices))}; go to one with: "
        f"make rollback VERSION={choices[-1]}"
        if choices
        else "No other version was champion."
    )
    if number not in former:
        raise PipelineError(
            f"expected a version of {name} that was champion before "
            f"{shown_version(champion)}. Received: {number}. {others}"
        )
    found = existing_version(name, number)
    if found is None:
        raise PipelineError(
            f"{name} version {number} was champion before, but it was deleted, or its files "
            f"were. {others}"
        )
    return found

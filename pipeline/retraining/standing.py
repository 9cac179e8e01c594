"""Where the model on disk stands in the registry: does it lack anything?"""

from dataclasses import dataclass
from typing import Literal

from pipeline.base.files import read_json
from pipeline.base.paths import REGISTRATION
from pipeline.promotion.champions import champion_number, existing_version
from pipeline.promotion.decision import Outcome
from pipeline.tracking.runs import MODEL_SHA256

Standing = Literal["not registered", "not judged", "passed", "done"]

_PASSED: Outcome = "passed"  # waits for somebody to promote it


@dataclass(frozen=True)
class Registration:
    """What eval/registration.json says."""

    name: str
    version: int
    model_sha256: str


def read_registration() -> Registration | None:
    """Return what the register stage wrote; None if it never ran."""
    if not REGISTRATION.exists():
        return None
    content = read_json(REGISTRATION)
    return Registration(content["name"], int(content["version"]), content["model_sha256"])


def standing(registration: Registration | None) -> Standing:
    """Ask the registry.

    ``not registered`` also of a store that does not have this very model under that number:
    it is another store, or was deleted.

    Raises:
        PipelineError: the store cannot be opened or read.
    """
    if registration is None:
        return "not registered"
    version = existing_version(registration.name, registration.version)
    if version is None or version.tags.get(MODEL_SHA256) != registration.model_sha256:
        return "not registered"
    if champion_number(registration.name) == registration.version:
        return "done"
    outcome = version.tags.get("gate.outcome")
    if outcome is None:
        return "not judged"
    return "passed" if outcome == _PASSED else "done"

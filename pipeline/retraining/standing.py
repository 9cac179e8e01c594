"""Where the model on disk stands in the registry: does it lack anything?"""

from dataclasses import dataclass
from typing import Literal

from pipeline.base.files import read_json
from pipeline.base.paths import REGISTRATION
from pipeline.promotion.champions import champion_number, existing_version
from pipeline.promotion.decision import RULES, Rules
from pipeline.tracking.runs import MODEL_SHA256

# replaced: it was champion, and another one is.
Standing = Literal["not registered", "not judged", "passed", "refused", "champion", "replaced"]

_OF_OUTCOME: dict[str, Standing] = {"passed": "passed", "refused": "refused"}


@dataclass(frozen=True)
class Registration:
    """What eval/registration.json says."""

    name: str
    version: int
    model_sha256: str

    def says(self, standing: Standing) -> str:
        """Return its standing as a sentence."""
        return {
            "not registered": f"{self} is not in the registry.",
            "not judged": f"{self} was not judged.",
            "passed": f"{self} passed the gate and waits for: make promote VERSION={self.version}",
            "refused": f"{self} was refused by the gate.",
            "champion": f"{self} is champion.",
            "replaced": f"{self} was champion, and another version is.",
        }[standing]

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


def read_registration() -> Registration | None:
    """Return what the register stage wrote; None if it never ran."""
    if not REGISTRATION.exists():
        return None
    content = read_json(REGISTRATION)
    return Registration(content["name"], int(content["version"]), content["model_sha256"])


def standing(registration: Registration | None, rules: Rules) -> Standing:
    """Ask the registry.

    ``not registered`` also of a store that does not have this very model under that number:
    it is another store, or was deleted. ``not judged`` also of a version that is not champion
    and was judged by other rules.

    Raises:
        PipelineError: the store cannot be opened or read.
    """
    if registration is None:
        return "not registered"
    version = existing_version(registration.name, registration.version)
    if version is None or version.tags.get(MODEL_SHA256) != registration.model_sha256:
        return "not registered"
    if champion_number(registration.name) == registration.version:
        return "champion"
    outcome = version.tags.get("gate.outcome")
    if outcome is None or version.tags.get(RULES) != rules.digest:
        return "not judged"
    return _OF_OUTCOME.get(outcome, "replaced")

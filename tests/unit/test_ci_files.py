"""The files of CI: valid, as far as their schemas go, and made of make targets that exist."""

import importlib.resources
import json
import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.retraining.ci import _COMMITTED, _NO_CI

GITHUB = sorted(Path(".github/workflows").glob("*.yml"))
GITLAB = Path(".gitlab-ci.yml")
SCHEMAS = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
# What GitLab says of a job, other than its name.
NO_JOBS = {"stages", "default", "variables", "workflow"}
MAKE = r"make (?:--silent )?([a-z-]+)(?: [A-Z_]+=(?:\$\{\{[^}]+\}\}|\S+))*(?: >>? \S+)?"
TARGETS = set(re.findall(r"^([a-z-]+):", Path("Makefile").read_text(), re.MULTILINE))


def load(path: Path) -> dict:
    """Read YAML as 1.2 has it, where ``on`` is a word."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), "tf")
    return yaml.load(path.read_text(), Loader)


def github_steps(path: Path) -> Iterator[dict]:
    for job in load(path)["jobs"].values():
        yield from job["steps"]


def gitlab_lines() -> Iterator[str]:
    for name, job in load(GITLAB).items():
        if name not in NO_JOBS:
            yield from (*job.get("script", ()), *job.get("after_script", ()))


def shell_lines() -> list[str]:
    lines = [step["run"] for path in GITHUB for step in github_steps(path) if "run" in step]
    return [*lines, *gitlab_lines()]


@pytest.mark.parametrize(
    ("path", "schema"),
    [*((path, "github-workflows.json") for path in GITHUB), (GITLAB, "gitlab-ci.json")],
    ids=str,
)
def test_the_files_fit_their_schemas(path, schema):
    content = json.loads((SCHEMAS / schema).read_text())
    errors = jsonschema.validators.validator_for(content)(content).iter_errors(load(path))
    assert [error.message for error in errors] == []


def test_a_mistake_would_be_seen():
    content = json.loads((SCHEMAS / "github-workflows.json").read_text())
    workflow = load(Path(".github/workflows/retrain.yml"))
    workflow["jobs"]["promote"]["envronment"] = workflow["jobs"]["promote"].pop("environment")
    validator = jsonschema.validators.validator_for(content)(content)
    assert list(validator.iter_errors(workflow))


@pytest.mark.parametrize("line", shell_lines())
def test_every_shell_step_is_a_make_target(line):
    if line == "bash .ci/run":  # which is make lint and make test
        return
    called = re.fullmatch(MAKE, line.strip())
    assert called, line
    assert called[1] in TARGETS


def test_promotion_waits_for_an_approval_in_a_job_of_its_own():
    jobs = load(Path(".github/workflows/retrain.yml"))["jobs"]
    assert jobs["promote"]["environment"] == "production"
    assert jobs["promote"]["needs"] == "retrain"
    assert "make retrain PROMOTE=no" in [step.get("run") for step in jobs["retrain"]["steps"]]
    job = load(GITLAB)["promote"]
    assert job["environment"] == "production"
    assert {rule["when"] for rule in job["rules"]} == {"manual", "never"}


def test_a_pull_request_is_retrained_at_a_commit_that_stays():
    steps = load(Path(".github/workflows/retrain.yml"))["jobs"]["retrain"]["steps"]
    assert steps[0]["with"]["ref"] == "${{ github.event.pull_request.head.sha || github.ref }}"


def test_pictures_are_kept_whatever_comes():
    steps = load(Path(".github/workflows/retrain.yml"))["jobs"]["retrain"]["steps"]
    (upload,) = (step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert (upload["if"], upload["with"]["path"]) == ("always()", "eval")
    assert load(GITLAB)["retrain"]["artifacts"]["when"] == "always"


def test_results_that_are_committed_start_no_retraining():
    """The paths that start one are none of those that ci-commit adds."""
    started_by = load(Path(".github/workflows/retrain.yml"))["on"]["push"]["paths"]
    assert started_by == ["params.yaml", "**/dvc.yaml", "**/*.dvc", "**/*labels*.csv"]
    assert _COMMITTED == ("*dvc.lock", "eval", "models")
    assert _NO_CI == "[skip ci]"

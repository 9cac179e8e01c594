"""The files of CI: valid according to their schemas, with commands that exist."""

import importlib.resources
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
import yaml
from typer.main import get_command

from pipeline.cli import app

GITHUB = sorted(Path(".github/workflows").glob("*.yml"))
GITLAB = Path(".gitlab-ci.yml")
COMPOSE = Path("docs/deploy/compose.yaml")
DEPLOY_GUIDE = Path("docs/deploy/README.md")
SCHEMAS = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
GITLAB_SETTINGS = {"stages", "default", "variables", "workflow"}  # the other keys are jobs
PATH_LINES = ('echo "$PWD/.venv/bin" >> "$GITHUB_PATH"', 'export PATH="$PWD/.venv/bin:$PATH"')
OTHER_LINES = {"make install", "bash .ci/run", *PATH_LINES}
RETRAIN = Path(".github/workflows/retrain.yml")


def load(path: Path) -> dict:
    """Read YAML 1.2, where ``on`` is a word."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), "tf")
    return yaml.load(path.read_text(), Loader)


def shell_lines() -> Iterator[str]:
    for path in GITHUB:
        for job in load(path)["jobs"].values():
            yield from (step["run"] for step in job["steps"] if "run" in step)
    for name, job in load(GITLAB).items():
        if name not in GITLAB_SETTINGS:
            yield from (*job.get("script", ()), *job.get("after_script", ()))


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        *((path, "github-workflows.json") for path in GITHUB),
        (GITLAB, "gitlab-ci.json"),
        (COMPOSE, "compose-spec.json"),
    ],
    ids=str,
)
def test_the_files_are_valid(path, schema):
    content = json.loads((SCHEMAS / schema).read_text())
    errors = jsonschema.validators.validator_for(content)(content).iter_errors(load(path))
    assert [error.message for error in errors] == []


PIN = re.compile(r"^\"?([\w-]+)(?:\[\w+\])?==([\w.]+)", re.MULTILINE)


def test_the_server_has_the_pinned_packages():
    build = load(COMPOSE)["services"]["mlflow"]["build"]["dockerfile_inline"]
    packages = re.sub(r"--\S+", "", build.partition("pip install")[2]).split()
    pins = PIN.findall("\n".join(packages))
    assert len(pins) == len(packages) == 5
    cluster, base = (
        dict(PIN.findall(Path(name).read_text()))
        for name in ("requirements-cluster.txt", "requirements.txt")
    )
    for name, version in pins:
        assert cluster[name] == base.get(name, version) == version, name


def test_both_ways_to_start_the_server_have_the_same_options():
    command = load(COMPOSE)["services"]["mlflow"]["command"]
    in_compose, in_guide = (
        re.findall(r" (--[\w-]+)", text.partition("mlflow server")[2].partition("```")[0])
        for text in (command, DEPLOY_GUIDE.read_text())
    )
    assert in_compose == in_guide
    assert {"--allowed-hosts", "--cors-allowed-origins"} <= set(in_guide)


def test_the_server_is_published_for_a_proxy_of_the_same_machine():
    assert load(COMPOSE)["services"]["mlflow"]["ports"] == ["127.0.0.1:5000:5000"]
    variables = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text()))
    assert variables == set(re.findall(r"^(\w+)=", DEPLOY_GUIDE.read_text(), re.MULTILINE))


def test_the_schema_notices_a_misspelled_key():
    content = json.loads((SCHEMAS / "github-workflows.json").read_text())
    workflow = load(RETRAIN)
    workflow["jobs"]["promote"]["envronment"] = workflow["jobs"]["promote"].pop("environment")
    validator = jsonschema.validators.validator_for(content)(content)
    assert list(validator.iter_errors(workflow))


@pytest.mark.parametrize("line", [line for line in shell_lines() if line not in OTHER_LINES])
def test_every_other_shell_line_is_a_valid_call_of_vidpipe(line):
    """Parse the arguments as the command does, without running it."""
    line = re.sub(r"\$\{\{[^}]+\}\}", "3", line)
    words = shlex.split(re.sub(r" >>? \S+$", "", line))
    words = [word for word in words if not word.startswith("PULL_REQUEST=")]
    assert Path(words[0]).name == "vidpipe"
    command, arguments = get_command(app), words[1:]
    while hasattr(command, "commands"):
        command = command.commands[arguments.pop(0)]
    command.make_context(command.name, arguments)


def test_promotion_waits_for_an_approval_in_a_job_of_its_own():
    jobs = load(RETRAIN)["jobs"]
    assert jobs["promote"]["environment"] == "production"
    assert jobs["promote"]["needs"] == "retrain"
    assert "vidpipe retrain --no-promote" in [step.get("run") for step in jobs["retrain"]["steps"]]
    job = load(GITLAB)["promote"]
    assert job["environment"] == "production"
    assert {rule["when"] for rule in job["rules"]} == {"manual", "never"}


def test_a_pull_request_is_retrained_at_a_commit_that_stays():
    steps = load(RETRAIN)["jobs"]["retrain"]["steps"]
    assert steps[0]["with"]["ref"] == "${{ github.event.pull_request.head.sha || github.ref }}"


def test_pictures_are_uploaded_after_an_error_too():
    steps = load(RETRAIN)["jobs"]["retrain"]["steps"]
    (upload,) = (step for step in steps if "upload-artifact" in step.get("uses", ""))
    assert (upload["if"], upload["with"]["path"]) == ("always()", "eval")
    assert load(GITLAB)["retrain"]["artifacts"]["when"] == "always"


def test_committed_results_start_no_retraining():
    """``vidpipe ci commit`` adds dvc.lock, eval/ and models/, none of which is a trigger."""
    triggers = load(RETRAIN)["on"]["push"]["paths"]
    assert triggers == ["params.yaml", "**/dvc.yaml", "**/*.dvc", "**/*labels*.csv"]

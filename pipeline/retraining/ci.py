"""What a CI job does with a retraining: commit it, post its report, hand its outcome on."""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.base.errors import PipelineError
from pipeline.base.files import read_json
from pipeline.base.paths import METRICS, MODEL, PROMOTION, RETRAINED
from pipeline.promotion.decision import Rules
from pipeline.retraining.progress import last_state
from pipeline.retraining.report import without_pictures
from pipeline.retraining.standing import read_registration, standing
from pipeline.tracking.provenance import git_output

logger = logging.getLogger(__name__)

# GitHub and GitLab start nothing for a commit whose message says so.
_NO_CI = "[skip ci]"
_COMMITTED = ("*dvc.lock", METRICS.parent.as_posix(), MODEL.parent.as_posix())
_STOPPED = "The retraining stopped with an error before its end: see the log of the job."
_NAME, _EMAIL = "Retraining", "retraining@users.noreply.github.com"


def commit_results(branch: str, *, remote: str = "origin") -> str:
    """Commit dvc.lock, eval/ and models/ as far as git keeps them, and push to ``branch``.

    If the branch has moved on meanwhile, the results go on top of it: they say in dvc.lock
    what they were made from.

    Args:
        branch: on the remote.
        remote: its name, or a URL.

    Returns:
        A sentence.

    Raises:
        PipelineError: git refuses; a conflict is left to people, and the commit is kept.
    """
    _git("add", "--all", "--", *_COMMITTED)
    if git_output("diff", "--cached", "--quiet") is not None:
        return "Nothing to commit."
    message = f"{_headline()} {_NO_CI}"
    identity = {
        f"GIT_{role}_{field}": os.environ.get(f"GIT_{role}_{field}", value)
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", _NAME), ("EMAIL", _EMAIL))
    }
    _git("commit", "--quiet", "--message", message, environment=identity)
    target = ("push", "--quiet", remote, f"HEAD:refs/heads/{branch}")
    try:
        _git(*target)
    except PipelineError:
        _rebase(remote, branch, identity)
        _git(*target)
    return f"Committed and pushed to {branch}: {message}"


def post_report(environment: Mapping[str, str]) -> list[str]:
    """Show the report where people look: the job's summary, and the pull or merge request.

    Comments go through CML if it is installed, which brings the pictures along; else through
    GitHub's own gh. A retraining that stopped before its end is told too.

    Args:
        environment: ``GITHUB_STEP_SUMMARY``: file of the summary; ``PULL_REQUEST``: number to
            comment on, or empty.

    Returns:
        A sentence for each place.

    Raises:
        PipelineError: a comment cannot be made.
    """
    state = last_state()
    if state in (None, "nothing"):
        return ["Nothing was retrained, so there is nothing to report."]
    is_done = state == "reported"
    done = [] if is_done else [_STOPPED]
    text = without_pictures(RETRAINED.read_text(encoding="utf-8")) if is_done else f"{_STOPPED}\n"
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as out:
            out.write(text)
        done.append("The report is in the summary of the job.")
    if number := environment.get("PULL_REQUEST"):
        done.append(_comment(number, text, has_pictures=is_done))
    return done or ["There is no job summary and no pull request here."]


def outcome_lines(rules: Rules) -> list[str]:
    """Return what later jobs go by, as ``name=value``: for GITHUB_OUTPUT, or a dotenv report.

    ``version``: of the model; ``promotable``: ``true`` if it passed and is not champion yet.
    """
    registration = read_registration()
    passed = standing(registration, rules) == "passed"
    version = "" if registration is None else registration.version
    return [f"version={version}", f"promotable={str(passed).lower()}"]


def _headline() -> str:
    if not PROMOTION.exists():
        return "Retrained"
    told = read_json(PROMOTION)
    return f"Retrained: version {told['challenger']['version']} {told['outcome']}"


def _comment(number: str, text: str, *, has_pictures: bool) -> str:
    """Comment on a pull request; CML uploads the pictures of the report beside their files."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, RETRAINED.name)
        path.write_text(text, encoding="utf-8")
        if shutil.which("cml"):
            report = str(RETRAINED if has_pictures else path)
            command = ["cml", "comment", "update", f"--target=pr/{number}", "--publish", report]
        elif shutil.which("gh"):
            command = ["gh", "pr", "comment", number, "--body-file", str(path)]
        else:
            return "No comment: neither cml nor gh is installed."
        _run(command)
    return f"The report is a comment on {number}, made by {command[0]}."


def _rebase(remote: str, branch: str, identity: Mapping[str, str]) -> None:
    """Put the commit on top of the branch as it is there, or leave it where it was."""
    try:
        _git("pull", "--quiet", "--rebase", remote, branch, environment=identity)
    except PipelineError:
        git_output("rebase", "--abort")
        raise


def _git(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    _run(["git", *arguments], environment or {})


def _run(command: list[str], environment: Mapping[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise PipelineError(f"{' '.join(command[:2])} failed: {done.stdout.strip()}")

"""Commands of a user id that no passwd file knows, as ``docker run -u 12345`` gives."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from pipeline.registry.champions import champion_number
from pipeline.registry.versions import CHALLENGER
from tests.registered import NAME, make_champion

REPOSITORY = Path(__file__).parents[2]
# A user namespace changes the user id and keeps the rights on files.
UNKNOWN_USER = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]


def run_as_unknown_user(code: str) -> str:
    """Run Python code as user 12345, without HOME; return what it prints."""
    hidden = ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    done = subprocess.run(
        [*UNKNOWN_USER, sys.executable, "-c", textwrap.dedent(code)],
        env={**environment, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(autouse=True, scope="module")
def _needs_user_namespaces():
    try:
        done = subprocess.run([*UNKNOWN_USER, "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("unshare is not installed")
    if done.returncode:
        pytest.skip(f"no user namespaces here: {done.stderr.decode().strip()}")


def test_an_unknown_user_promotes_and_rolls_back(versions):
    make_champion(1)
    versions.set_registered_model_alias(NAME, CHALLENGER, "2")
    printed = run_as_unknown_user(
        """
        from pipeline.common.command import run_command

        def main():
            from pipeline.registry.promotion import promote, roll_back
            from tests.unit.test_promotion import PARAMS, all_right

            print(promote(PARAMS, judge=all_right).decision.outcome)
            print(roll_back(PARAMS.register_.name, reason="too slow").version)

        run_command(main)
        """
    )
    assert printed.split() == ["promoted", "1"]
    assert champion_number(NAME) == 1


@pytest.mark.long
def test_an_unknown_user_trains_in_a_run_and_starts_dvc(versions, tmp_path, monkeypatch):  # noqa: ARG001
    monkeypatch.chdir(tmp_path)
    printed = run_as_unknown_user(
        """
        from pipeline.common.command import run_command, run_python

        def main():
            from pipeline.tracking.runs import training_run
            from pipeline.tracking.store import connect

            with training_run(params={}, dataset="data") as run:
                pass
            print(connect().get_run(run.id).data.tags["mlflow.user"])
            run_python("dvc", "init", "--quiet", "--no-scm")
            run_python("dvc", "status", "--quiet")

        run_command(main)
        """
    )
    assert printed.split() == ["uid-12345"]

"""Verbs that retrain, and the steps of a CI job around them."""

import os
from typing import Annotated

from typer import Exit, Option, Typer

from pipeline.cli.app import app, params_of_project, print_lines

ci_app = Typer(
    help="Steps of a CI job around retrain and promote.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(ci_app, name="ci")


@app.command()
def retrain(
    no_promote: Annotated[bool, Option("--no-promote", help="keep the champion")] = False,
    wait: Annotated[bool, Option("--wait", help="wait until another retraining ends")] = False,
    ignore_data_check: Annotated[
        bool, Option("--ignore-data-check", help="report failed data checks and continue")
    ] = False,
) -> None:
    """Run outdated stages, judge the model and promote it.

    Steps: pull, check the data, run stages, push, gate, report (eval/retrain.md).

    \b
    Example:    vidpipe retrain --no-promote
    Exit codes: 0 promoted, passed or nothing to do, 1 unfit data or an error, 3 refused
                (0 with --no-promote: a refusal is then a result), 130 interrupted.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import RETRAIN_REPORT
    from pipeline.registry.gate import REFUSED_EXIT_CODE
    from pipeline.retraining.retrain import retrain as run_retraining

    output_file(RETRAIN_REPORT)
    result = run_retraining(promote=not no_promote, wait=wait, ignore_data_check=ignore_data_check)
    print(result.sentence)
    if result.outcome == "unfit data":
        raise Exit(1)
    if result.outcome == "refused" and not no_promote:
        raise Exit(REFUSED_EXIT_CODE)


@ci_app.command("pull")
def ci_pull() -> None:
    """Pull the videos and the catalog that promote needs.

    \b
    Example:    vidpipe ci pull
    Exit codes: 0 done, or DVC has no remote, 1 error.
    """
    from pipeline.retraining.ci import pull_videos

    print(pull_videos(params_of_project()))


@ci_app.command("commit")
def ci_commit(
    branch: Annotated[str, Option(help="is pushed to; empty: nothing is committed")] = "",
) -> None:
    """Commit the results of a retraining and push them.

    \b
    Example:    vidpipe ci commit --branch main
    Exit codes: 0 pushed, or nothing to commit, 1 error.
    """
    from pipeline.retraining.ci import commit_results

    if branch:
        print(commit_results(branch, remote=os.environ.get("PUSH_URL") or "origin"))
    else:
        print("--branch is empty: nothing is committed.")


@ci_app.command("report")
def ci_report() -> None:
    """Post the report to the job and the pull request.

    \b
    Example:    PULL_REQUEST=12 vidpipe ci report
    Exit codes: 0 posted, or nothing to report, 1 error.
    """
    from pipeline.retraining.ci import post_report

    print_lines(post_report(os.environ))


@ci_app.command("outcome")
def ci_outcome() -> None:
    """Print version= and promotable= for later jobs.

    \b
    Example:    vidpipe ci outcome >> "$GITHUB_OUTPUT"
    Exit codes: 0 printed, 1 error.
    """
    from pipeline.retraining.ci import outcome_lines

    print_lines(outcome_lines(params_of_project()))

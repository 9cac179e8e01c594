"""Verbs about versions of the registered model."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Exit, Option

from pipeline.cli.app import Version, app, params_of_project, print_lines, version_named

_DIFFERENT = 3  # exit code of rebuild


@app.command()
def promote(
    version: Annotated[str, Argument(metavar="VERSION", help="default: @challenger")] = "",
    dry_run: Annotated[bool, Option("--dry-run", help="keep the champion")] = False,
    again: Annotated[bool, Option("--again", help="also after a rollback")] = False,
) -> None:
    """Make a version champion if it passes the gate.

    It is judged on the current test videos, against the champion.

    \b
    Example:    vidpipe promote 3 --dry-run
    Exit codes: 0 promoted, passed or champion already, 1 error, 3 refused.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import PROMOTION, PROMOTION_REPORT
    from pipeline.registry.gate import REFUSED_EXIT_CODE
    from pipeline.registry.promotion import promote as promote_version
    from pipeline.retraining.repro import read_registration

    for report_file in (PROMOTION, PROMOTION_REPORT):
        output_file(report_file)
    if not version and (here := read_registration()):
        here.reference()  # raises if @challenger is an earlier model, because this one waits
    report = promote_version(
        params_of_project(), version=version or None, dry_run=dry_run, again=again
    )
    print_lines(report.lines())
    if report.decision.outcome == "refused":
        raise Exit(REFUSED_EXIT_CODE)


@app.command()
def rollback(
    version: Annotated[str, Argument(help="former champion; default: the previous one")] = "",
    reason: Annotated[str, Option(metavar="TEXT", help="for the history")] = "not given",
) -> None:
    """Make a former champion the champion again.

    \b
    Example:    vidpipe rollback --reason "too slow"
    Exit codes: 0 rolled back, 1 error.
    """
    from pipeline.registry.champions import RESTART_SERVERS, version_text
    from pipeline.registry.promotion import roll_back

    name = params_of_project().register_.name
    record = roll_back(name, reason=reason, version=version or None)
    print(
        f"{name}: version {record.version} is champion again, after "
        f"{version_text(record.previous)}. Reason: {record.reason}\n{RESTART_SERVERS}"
    )


@app.command()
def champions() -> None:
    """Print the history of champions.

    \b
    Example:    vidpipe champions
    Exit codes: 0 printed, 1 error.
    """
    from pipeline.registry.champions import history_lines

    print_lines(history_lines(params_of_project().register_.name))


@app.command()
def show(
    version: Version = "@champion",
    json: Annotated[bool, Option("--json", help="print everything as JSON")] = False,
    files: Annotated[bool, Option("--files", help="list every file")] = False,
) -> None:
    """Print the commit, params, scores and data of a version.

    \b
    Example:    vidpipe show 3 --files
    Exit codes: 0 printed, 1 error.
    """
    import json as json_module

    from pipeline.registry.show import trace, trace_lines

    origin = trace(version_named(version))
    if json:
        print(json_module.dumps(origin.to_json(), indent=2))
    else:
        print_lines(trace_lines(origin, all_files=files))


@app.command()
def rebuild(
    version: Version = "@champion",
    keep: Annotated[Path | None, Option(help="keep the worktree in this new folder")] = None,
) -> None:
    """Retrain a version from its commit and compare.

    \b
    Example:    vidpipe rebuild 3 --keep ../rebuilt
    Exit codes: 0 the same, 1 error, 3 different.
    """
    from pipeline.registry.rebuild import rebuild as rebuild_version

    result = rebuild_version(version_named(version), keep=keep)
    print_lines(result.lines())
    if not result.is_same:
        raise Exit(_DIFFERENT)

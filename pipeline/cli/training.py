"""Verbs that train and judge models of this project."""

import logging
from typing import Annotated

from typer import Argument, Exit, Option

from pipeline.cli.app import app, params_of_project, print_lines

logger = logging.getLogger(__name__)


@app.command()
def repro(
    targets: Annotated[list[str] | None, Argument(metavar="STAGE", help="default: all")] = None,
    force: Annotated[bool, Option("--force", help="run stages that are up to date")] = False,
    single_item: Annotated[bool, Option("--single-item", help="only these stages")] = False,
) -> None:
    """Run the stages that are out of date.

    params.yaml is checked first. When a stage fails, its last good outputs are checked out again.

    \b
    Example:    vidpipe repro train
    Exit codes: 0 done, 1 error, 130 interrupted; when a stage fails, that of DVC.
    """
    from pipeline.common.paths import DATA_REPORT
    from pipeline.retraining.repro import reproduce, summary_lines

    if code := reproduce(targets or [], force=force, single_item=single_item):
        raise Exit(code)
    if not targets:
        print_lines(summary_lines(params_of_project()))
    elif "report" in targets:
        logger.info("Open %s in a browser: the data before training.", DATA_REPORT)


@app.command()
def sync() -> None:
    """Send what MLflow lacks after an outage.

    Sends runs that were trained while MLflow was unreachable (mlflow-buffer/), and registers the
    present model if the store does not have it.

    \b
    Example:    vidpipe sync
    Exit codes: 0 done, 1 error.
    """
    from pipeline.retraining.repro import synchronise

    if code := synchronise():
        raise Exit(code)


@app.command()
def crossval(
    folds: Annotated[
        int | None,
        Option(
            min=2, help="computed folds; default: the official ones of the labels table, else 5"
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="of computed folds and of validation clips")] = 0,
) -> None:
    """Cross-validate the recipe of params.yaml.

    Uses the official folds if the labels table has them (fold_1, fold_2, ...). Computed folds
    test every clip once. Groups are never split. Doubtful labels are listed. After Ctrl-C or a
    kill, the next call with the same settings, data and code continues.

    \b
    Example:    vidpipe crossval --folds 5 --seed 0
    Exit codes: 0 done, 1 error, 130 interrupted; when a stage fails, that of DVC.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import CROSSVAL
    from pipeline.retraining.crossval import cross_validate
    from pipeline.retraining.fold_training import only_one_training_of_folds
    from pipeline.retraining.repro import reproduce

    output_file(CROSSVAL / "summary.json")
    with only_one_training_of_folds():
        if code := reproduce(["extract"]):
            raise Exit(code)
        print_lines(cross_validate(params_of_project(), n_folds=folds, seed=seed))


@app.command()
def tune(
    minutes: Annotated[float, Option(min=0, help="of this call; 0: only show or apply")] = 30,
    trials: Annotated[
        int | None, Option(min=1, help="most finished trials, with those of earlier calls")
    ] = None,
    folds: Annotated[int, Option(min=2)] = 3,
    seed: Annotated[int, Option(min=0, help="of the folds")] = 0,
    apply: Annotated[bool, Option("--apply", help="write the winner to params.yaml")] = False,
) -> None:
    """Search for better settings of model and train.

    Each trial is cross-validated on the training and validation clips; the test split is not
    read. After a kill, the next call continues. docs/tuning.md lists the settings.

    \b
    Example:    vidpipe tune --minutes 30 --apply
    Exit codes: 0 done, 1 error, 130 interrupted; when a stage fails, that of DVC.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import TUNE
    from pipeline.retraining.fold_training import only_one_training_of_folds
    from pipeline.retraining.repro import reproduce

    output_file(TUNE / "summary.json")
    with only_one_training_of_folds():
        if code := reproduce(["extract"]):
            raise Exit(code)

        from pipeline.retraining.tune import Budget, tune_settings

        budget, params = Budget(minutes, trials), params_of_project()
        print_lines(tune_settings(params, budget, n_folds=folds, seed=seed, apply=apply))


@app.command()
def compare(
    a: Annotated[str, Argument(metavar="A", help="version, run, git revision")] = "HEAD",
    b: Annotated[str, Argument(metavar="B", help="the same; workspace: eval/")] = "workspace",
) -> None:
    """Compare two models on the test videos of both.

    \b
    Example:    vidpipe compare @champion workspace
    Exit codes: 0 compared, 1 error.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import COMPARISON
    from pipeline.registry.compare import compare_sides, comparison_lines, write_comparison_page

    output_file(COMPARISON)
    params = params_of_project()
    comparison = compare_sides(a, b, name=params.register_.name, section=params.evaluate)
    write_comparison_page(comparison, COMPARISON)
    print_lines([*comparison_lines(comparison), "", f"As a page: {COMPARISON}"])

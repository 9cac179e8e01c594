"""Verbs about the data set and the settings."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Exit, Option

from pipeline.cli.app import app, params_of_project, print_lines


@app.command("import")
def import_(
    dataset: Annotated[
        str,
        Argument(
            metavar="DATASET",
            help="ucf101, hmdb51, kinetics, ssv2, mmaction2, videofolder, msrvtt or msvd",
        ),
    ],
    src: Annotated[
        Path, Argument(metavar="SRC", help="folder of annotations and videos, or an archive")
    ],
    to: Annotated[
        Path | None, Option(help="new folder; default: data/imported/DATASET", show_default=False)
    ] = None,
    task: Annotated[
        str | None, Option(help="such as caption for ssv2; default: the usual one")
    ] = None,
) -> None:
    """Prepare a downloaded data set: labels.csv and params.yaml.

    Unpacks archives (zip, tar, rar), writes labels.csv and sets params.yaml. Videos of a folder
    are linked. Nothing is downloaded. docs/datasets.md lists what SRC must hold.

    \b
    Example:    vidpipe import ucf101 ~/Downloads/ucf101
    Exit codes: 0 done, 1 error.
    """
    from pipeline.common.paths import PARAMS
    from pipeline.importing.datasets import DATA_SETS
    from pipeline.importing.importer import import_data_set
    from pipeline.retraining.checks import require_no_run

    require_no_run()
    if dataset not in DATA_SETS:
        raise BadParameter(
            f"expected one of {', '.join(DATA_SETS)}. Received: {dataset}", param_hint="DATASET"
        )
    tasks = DATA_SETS[dataset].tasks
    if task is not None and task not in tasks:
        raise BadParameter(
            f"expected one of {', '.join(tasks)} for {dataset}. Received: {task}",
            param_hint="--task",
        )
    print_lines(import_data_set(dataset, src, params=PARAMS, to=to, task=task))


@app.command()
def init(
    folder: Annotated[Path, Argument(help="of videos: class folders, or with a table of labels")],
    task: Annotated[
        str | None, Option(metavar="TYPE", help="a value of task.type; default: by the labels")
    ] = None,
    dvc_add: Annotated[bool, Option("--dvc-add", help="track the folder with DVC")] = False,
) -> None:
    """Set params.yaml to a folder of videos.

    Prints what is in the folder, what to fix and to look at, the settings that change, and how
    long the stages will take. Comments in params.yaml stay.

    \b
    Example:    vidpipe init ~/my/videos
    Exit codes: 0 done, 1 error (params.yaml is unchanged), or something to fix (params.yaml is
                set).
    """
    from pipeline.retraining.checks import require_no_run
    from pipeline.setup.init import initialise
    from pipeline.tasks.targets import target_types

    require_no_run()
    if task is not None and task not in target_types():
        raise BadParameter(f"expected one of {', '.join(target_types())}. Received: {task}")
    result = initialise(folder, task_type=task, dvc_add=dvc_add)
    print_lines(result.lines)
    if not result.is_trainable:
        raise Exit(1)


@app.command()
def doctor() -> None:
    """Examine the machine, the environment and the project.

    Each line is ok, or says what to do.

    \b
    Example:    vidpipe doctor
    Exit codes: 0 nothing failed, 1 something failed.
    """
    from pipeline.setup.doctor import doctor_lines, examine

    findings = examine()
    print_lines(doctor_lines(findings))
    if any(finding.status == "fail" for finding in findings):
        raise Exit(1)


@app.command()
def demo(
    name: Annotated[str, Argument(metavar="NAME", help="a value of task.type, or side_inputs")],
) -> None:
    """Set params.yaml to a demo data set.

    `vidpipe repro` then builds it. Only data, task, register.name and what the demo needs of
    extract and model change.

    \b
    Example:    vidpipe demo regression
    Exit codes: 0 done, 1 error.
    """
    from pipeline.common.paths import PARAMS
    from pipeline.retraining.checks import require_no_run
    from pipeline.setup.demo import use_demo

    require_no_run()
    use_demo(name, PARAMS)
    print(f"params.yaml uses the demo data set {name}. Build it with: vidpipe repro")


@app.command()
def labels(
    output: Annotated[
        Path | None, Option(metavar="FILE", help="new table; default: labels.csv of the folder")
    ] = None,
    folder: Annotated[
        Path | None, Option(metavar="FOLDER", help="of videos; default: data.videos")
    ] = None,
) -> None:
    """Write a table of labels with proposed groups.

    The command reads class folders or a table, keeps its cells, and groups copies, videos whose
    names share a stem, and videos that look alike, also mirrored. Edit the groups: videos of one
    group are in one split. If you clear a cell group but not proposed_group, the video stays out.

    \b
    Example:    vidpipe labels --output proposed.csv
    Exit codes: 0 done, 1 error.
    """
    from pipeline.data_report.labels import write_labels_table
    from pipeline.tasks.targets import targets_of

    params = params_of_project()
    lines = write_labels_table(
        params.data,
        targets_of(params.task.type).configured(params.task),
        decode=params.decode,
        compute=params.compute,
        folder=folder,
        output=output,
    )
    print_lines(lines)


@app.command()
def check() -> None:
    """Check params.yaml, its paths and the model.

    \b
    Example:    vidpipe check
    Exit codes: 0 valid, 1 error.
    """
    from pipeline.retraining.checks import check_settings

    check_settings()
    print("params.yaml is valid.")


@app.command("data-check")
def data_check() -> None:
    """Compare the data with that of the champion.

    New videos are decoded first.

    \b
    Example:    vidpipe data-check
    Exit codes: 0 no findings, or warnings only, 1 a check failed, or an error; when a stage
                fails, that of DVC.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import DATA_CHECK
    from pipeline.retraining.checks import check_data_set
    from pipeline.retraining.repro import reproduce

    output_file(DATA_CHECK)
    if code := reproduce(["decode"]):
        raise Exit(code)
    result = check_data_set(params_of_project())
    print_lines(result.lines())
    if result.failed:
        raise Exit(1)

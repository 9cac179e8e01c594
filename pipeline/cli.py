"""The command line ``vidpipe``: each verb is a few lines over a package.

Imports that take time stand inside the verbs, so that help and completion answer at once.
"""

import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Exit, Option, Typer

from pipeline.common.command import run_command

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from pipeline.params import Params

logger = logging.getLogger(__name__)

_DIFFERENT = 3  # exit code of rebuild

app = Typer(
    help="From a folder of labelled videos to an evaluated, registered and served model.",
    epilog="A version is named 3, @champion, name@alias or name/3. Exit codes: 0 done, 1 error, "
    "2 wrong arguments, 3 refused or different, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
ci_app = Typer(
    help="Steps of a CI job around retrain and promote.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(ci_app, name="ci")

Version = Annotated[str, Argument(help="such as 3, @champion, name@alias or name/3")]


def main() -> None:
    """Run ``vidpipe``."""
    run_command(app)


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
    from pipeline.retraining.repro import reproduce, summary_lines

    if code := reproduce(targets or [], force=force, single_item=single_item):
        raise Exit(code)
    if not targets:
        _print_lines(summary_lines(_params()))


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
    from pipeline.dataset.demo import use_demo

    use_demo(name, PARAMS)
    print(f"params.yaml uses the demo data set {name}. Build it with: vidpipe repro")


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


@app.command()
def predict(
    videos: Annotated[list[str], Argument(metavar="VIDEO", help="files, folders, quoted patterns")],
    model: Annotated[str, Option(help="version; default: of this project, or @challenger")] = "",
    csv: Annotated[str, Option(metavar="FILE", help="write csv; -: to the terminal")] = "",
    json: Annotated[str, Option(metavar="FILE", help="write JSON; -: to the terminal")] = "",
    preview: Annotated[Path | None, Option(help="write a PNG of the model's input")] = None,
    timeline: Annotated[bool, Option("--timeline", help="also predict segments")] = False,
    clips: Annotated[int, Option(min=0, help="maximum per video; 0: as in training")] = 0,
    side: Annotated[
        list[str] | None, Option(metavar="COLUMN=VALUE", help="side input of all videos")
    ] = None,
    side_table: Annotated[
        Path | None, Option(metavar="FILE", help="csv with the columns video and side inputs")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"] | None, Option(help="default: compute.engine of params.yaml")
    ] = None,
) -> None:
    """Predict videos with a registered model.

    A table is printed, unless --csv or --json is given. --engine ray predicts on the cluster at
    compute.address, whose machines share this folder and the videos: docs/scale.md.

    \b
    Example:    vidpipe predict a.mp4 clips/ --timeline --json out.json
    Exit codes: 0 done, 1 error, or a video could not be predicted, 130 interrupted.
    """
    from pipeline.common.files import IN_PROGRESS_PREFIX, output_file
    from pipeline.serving.predict import (
        LocalModel,
        as_csv,
        as_json,
        as_table,
        given_side_inputs,
        named_videos,
    )
    from pipeline.serving.ray_model import RayModel
    from pipeline.serving.request import RequestOptions, ServingConfig

    files = named_videos(videos)
    for output in (csv, json, preview):
        if output and output != "-":
            output_file(Path(output))
    given = given_side_inputs(files, side or [], side_table)
    options = RequestOptions.from_params({"timeline": timeline, "clips": clips}, prefix="--")

    import joblib
    from tqdm import tqdm

    from pipeline.common.paths import MODEL, MODEL_METADATA
    from pipeline.common.tables import printable
    from pipeline.registry.versions import CHALLENGER, version_file, version_title
    from pipeline.retraining.repro import read_registration
    from pipeline.review.film_strips import write_preview

    params = _params()
    if not model:
        here = read_registration()
        model = here.reference() if here else f"@{CHALLENGER}"
    version = _version(model, params)
    logger.info("model %s", version_title(version))
    decoders = min(len(files), params.compute.workers or joblib.cpu_count())
    config = ServingConfig(timeout_seconds=params.decode.timeout_seconds, decoders=decoders)
    is_ray = (engine or params.compute.engine) == "ray"
    shared = Path.cwd() if is_ray else None  # the workers read the model there
    with tempfile.TemporaryDirectory(prefix=IN_PROGRESS_PREFIX, dir=shared) as folder:
        for name in (MODEL.name, MODEL_METADATA.name):
            shutil.copy(version_file(version, name), Path(folder, name))
        loaded = (
            RayModel(Path(folder), config, params.compute)
            if is_ray
            else LocalModel(Path(folder), config)
        )
        predicted = loaded.predict(files, options, given)
        answers = list(tqdm(predicted, "predict", len(files), unit="video", disable=None))
        if csv:
            _write(as_csv(files, answers, loaded.task), csv)
        if json:
            _write(as_json(files, answers, loaded.task), json)
        if not csv and not json:
            print(as_table(files, answers, loaded.task), end="")
        pairs = list(zip(files, answers, strict=True))
        if preview:
            strips = [
                (f"{printable(str(file))}: {loaded.task.answer_line(answer, shown=1)[0]}", seen)
                for file, answer in pairs
                if "error" not in answer and (seen := loaded.seen_clips(file, options))
            ]
            write_preview(output_file(preview), strips)
    if failed := [(file, answer["error"]) for file, answer in pairs if "error" in answer]:
        logger.error("%d of %d videos could not be predicted:", len(failed), len(files))
        for file, error in failed:
            logger.error("  %s: %s", printable(str(file)), printable(error))
        raise Exit(1)


@app.command()
def serve(
    version: Version = "@champion",
    host: Annotated[str, Option(help="0.0.0.0: reachable from other machines")] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535)] = 5001,
) -> None:
    """Serve a version over HTTP.

    The server is MLflow's; docs/serving.md has requests and answers.

    \b
    Example:    vidpipe serve @champion --port 5001
    Exit codes: 0 stopped, 1 error, 130 interrupted.
    """
    from pipeline.registry.versions import version_uri
    from pipeline.serving.server import serve_command, server_environment, serving_config

    params = _params()
    config = serving_config(params.serve, params.decode, params.compute)
    uri = version_uri(_version(version, params))
    command = serve_command(uri, host=host, port=port, config=config)
    logger.info("%s at http://%s:%d/invocations", uri, host, port)
    os.execve(command[0], command, server_environment(config))


@app.command()
def export(
    version: Version = "@champion",
    output: Annotated[Path, Option(help="folder: new, empty, or an export")] = Path("exported"),
) -> None:
    """Write a version as files that need no MLflow.

    \b
    Example:    vidpipe export 3 --output exported
    Exit codes: 0 written, 1 error.
    """
    from pipeline.registry.versions import export_version, version_uri

    exported = _version(version)
    export_version(exported, output)
    logger.info("%s: wrote %s", version_uri(exported), output)


@app.command()
def crossval(
    folds: Annotated[int, Option(min=2)] = 5,
    seed: Annotated[int, Option(min=0, help="of the folds")] = 0,
) -> None:
    """Cross-validate the recipe of params.yaml.

    Every clip is tested once, and groups are never split. Doubtful labels are listed.

    \b
    Example:    vidpipe crossval --folds 5 --seed 0
    Exit codes: 0 done, 1 error, 130 interrupted; when a stage fails, that of DVC.
    """
    from pipeline.common.files import output_file
    from pipeline.common.paths import CROSSVAL
    from pipeline.retraining.crossval import cross_validate
    from pipeline.retraining.repro import reproduce

    output_file(CROSSVAL / "summary.json")
    if code := reproduce(["extract"]):
        raise Exit(code)
    _print_lines(cross_validate(_params(), n_folds=folds, seed=seed))


@app.command()
def tune(
    minutes: Annotated[float, Option(min=0, help="of this call; 0: only show and apply")] = 30,
    trials: Annotated[
        int | None, Option(min=1, help="at most, with those of earlier calls; default: no limit")
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
    from pipeline.retraining.repro import reproduce

    output_file(TUNE / "summary.json")
    if code := reproduce(["extract"]):
        raise Exit(code)

    from pipeline.retraining.tune import Budget, tune_settings

    budget = Budget(minutes, trials)
    _print_lines(tune_settings(_params(), budget, n_folds=folds, seed=seed, apply=apply))


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
    params = _params()
    comparison = compare_sides(a, b, name=params.register_.name, section=params.evaluate)
    write_comparison_page(comparison, COMPARISON)
    _print_lines([*comparison_lines(comparison), "", f"As a page: {COMPARISON}"])


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
    report = promote_version(_params(), version=version or None, dry_run=dry_run, again=again)
    _print_lines(report.lines())
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

    name = _params().register_.name
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

    _print_lines(history_lines(_params().register_.name))


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

    origin = trace(_version(version))
    if json:
        print(json_module.dumps(origin.to_json(), indent=2))
    else:
        _print_lines(trace_lines(origin, all_files=files))


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

    result = rebuild_version(_version(version), keep=keep)
    _print_lines(result.lines())
    if not result.is_same:
        raise Exit(_DIFFERENT)


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
    result = check_data_set(_params())
    _print_lines(result.lines())
    if result.failed:
        raise Exit(1)


@ci_app.command("pull")
def ci_pull() -> None:
    """Pull the videos and the catalog that promote needs.

    \b
    Example:    vidpipe ci pull
    Exit codes: 0 done, or DVC has no remote, 1 error.
    """
    from pipeline.retraining.ci import pull_videos

    print(pull_videos(_params()))


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

    _print_lines(post_report(os.environ))


@ci_app.command("outcome")
def ci_outcome() -> None:
    """Print version= and promotable= for later jobs.

    \b
    Example:    vidpipe ci outcome >> "$GITHUB_OUTPUT"
    Exit codes: 0 printed, 1 error.
    """
    from pipeline.retraining.ci import outcome_lines

    _print_lines(outcome_lines(_params()))


def _params() -> "Params":
    from pipeline.params import load_params

    return load_params()


def _version(text: str, params: "Params | None" = None) -> "ModelVersion":
    from pipeline.registry.versions import find_version

    return find_version(text, name=(params or _params()).register_.name)


def _print_lines(lines: Sequence[str]) -> None:
    from pipeline.common.tables import printable

    print("\n".join(map(printable, lines)))


def _write(text: str, destination: str) -> None:
    """Write ``text`` to a file, or to stdout for ``-``."""
    from pipeline.common.files import output_file, replacing_file

    if destination == "-":
        print(text, end="")
        return
    with replacing_file(output_file(Path(destination))) as temporary:
        temporary.write_text(text, encoding="utf-8")
    logger.info("wrote %s", destination)


if __name__ == "__main__":
    main()

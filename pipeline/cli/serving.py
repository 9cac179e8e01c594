"""Verbs that use a registered model."""

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Exit, Option

from pipeline.cli.app import Version, app, params_of_project, version_named, write_text

logger = logging.getLogger(__name__)


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
    from pipeline.common.files import output_file
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

    params = params_of_project()
    if not model:
        here = read_registration()
        model = here.reference() if here else f"@{CHALLENGER}"
    version = version_named(model, params)
    logger.info("model %s", version_title(version))
    decoders = min(len(files), params.compute.workers or joblib.cpu_count())
    config = ServingConfig(timeout_seconds=params.decode.timeout_seconds, decoders=decoders)
    is_ray = (engine or params.compute.engine) == "ray"
    # The workers of Ray read the model in the working directory.
    with shared_folder(Path.cwd()) if is_ray else tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in (MODEL.name, MODEL_METADATA.name):
            shutil.copy(version_file(version, part), folder / part)
        loaded = RayModel(folder, config, params.compute) if is_ray else LocalModel(folder, config)
        predicted = loaded.predict(files, options, given)
        answers = list(tqdm(predicted, "predict", len(files), unit="video", disable=None))
        if csv:
            write_text(as_csv(files, answers, loaded.task), csv)
        if json:
            write_text(as_json(files, answers, loaded.task), json)
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
        logger.error("%d of %d videos could not be predicted.", len(failed), len(files))
        if csv or json:  # the table has the errors
            for file, error in failed:
                logger.error("  %s: %s", printable(str(file)), printable(error))
        raise Exit(1)


@contextmanager
def shared_folder(parent: Path) -> Iterator[Path]:
    """Yield a folder in ``parent`` that is deleted after the block.

    Folders of commands that were killed on this machine are deleted, too.
    """
    from pipeline.common.files import IN_PROGRESS_PREFIX, read_json, write_json
    from pipeline.compute.processes import is_alive, is_here, process_tags

    prefix, owner = f"{IN_PROGRESS_PREFIX}predict-", "process.json"
    for leftover in parent.glob(f"{prefix}*/{owner}"):
        with suppress(FileNotFoundError):  # its process has just ended
            tags = read_json(leftover)
            if is_here(tags) and not is_alive(tags):
                shutil.rmtree(leftover.parent)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as folder:
        write_json(Path(folder, owner), process_tags())
        yield Path(folder)


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
    from pipeline.serving.server import (
        check_port,
        serve_command,
        server_environment,
        serving_config,
    )

    check_port(host, port)
    params = params_of_project()
    config = serving_config(params.serve, params.decode, params.compute)
    uri = version_uri(version_named(version, params))
    command = serve_command(uri, host=host, port=port, config=config)
    logger.info("Starting %s at http://%s:%d/invocations; ready in half a minute", uri, host, port)
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

    exported = version_named(version)
    export_version(exported, output)
    logger.info("Wrote %s to the folder %s", version_uri(exported), output)

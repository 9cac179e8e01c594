"""Print what a registered version was made from: make trace VERSION=3 (or champion).

Its commit, params and test scores, and the digests and files of catalog, frames and clips.
"""

import argparse
import json
from collections.abc import Iterator, Mapping

from pipeline.base.command import run_command
from pipeline.lineage.trace import Trace, TracedData, find_version, trace
from pipeline.params import load_params

_SHOWN_FILES = 5


def main() -> None:
    arguments = _parse_arguments()
    found = trace(find_version(load_params().register_.name, arguments.version))
    if arguments.json:
        print(json.dumps(found.to_json(), indent=2))
    else:
        print("\n".join(_lines(found, all_files=arguments.files)))


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.trace", description=__doc__)
    parser.add_argument(
        "--version", default="champion", help="a number or an alias; default: champion"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--files", action="store_true", help="list every file")
    return parser.parse_args()


def _lines(found: Trace, *, all_files: bool) -> Iterator[str]:
    aliases = "".join(f" @{alias}" for alias in found.aliases)
    yield f"{found.name} version {found.version}{aliases}, registered {found.registered}"
    yield f"  run     {found.run_id} on {found.host}{' (recreated)' if found.recreated else ''}"
    yield f"  model   sha256 {found.model_sha256}"
    yield f"  commit  {found.git_commit} on {found.git_branch}{_dirty(found)}"
    yield "params"
    yield from _columns(found.params) if found.params else ["  not recorded"]
    yield "test videos"
    scores = {name: f"{value:.6g}" for name, value in found.metrics.items()}
    yield from _columns(scores) if scores else ["  not recorded"]
    yield "data"
    for what, data in found.data.items():
        yield f"  {what:<8}{data.path} {data.digest}, {_count(data)}"
        yield from _files(data, all_files=all_files)
    yield from _videos(found)


def _dirty(found: Trace) -> str:
    return {"true": ", with changes that were not committed", "false": ""}.get(
        found.git_dirty, ", not known whether all was committed"
    )


def _columns(values: Mapping[str, str]) -> Iterator[str]:
    width = max(map(len, values))
    for name, value in values.items():
        yield f"  {name:<{width}}  {value}"


def _count(data: TracedData) -> str:
    if data.files is None:
        return f"files not known: {data.why}"
    return f"{len(data.files)} file{'' if len(data.files) == 1 else 's'}"


def _files(data: TracedData, *, all_files: bool) -> Iterator[str]:
    files = data.files or ()
    if len(files) < 2:  # the line above says it all
        return
    shown = len(files) if all_files else _SHOWN_FILES
    for file in files[:shown]:
        yield f"          {file.md5}  {file.path}"
    if len(files) > shown:
        yield f"          and {len(files) - shown} more (FILES=all lists them)"


def _videos(found: Trace) -> Iterator[str]:
    if found.videos is None:
        yield "  videos  not recorded"
        return
    for split, counts in found.videos.items():
        by_label = ", ".join(f"{label} {count}" for label, count in counts.items())
        yield f"  {split:<8}{sum(counts.values())} videos: {by_label}"


if __name__ == "__main__":
    run_command(main)

"""Give the alias champion back to the version before: make rollback REASON="too slow"."""

import argparse

from pipeline.base.command import run_command
from pipeline.params import load_params
from pipeline.promotion.champions import (
    RESTART_SERVERS,
    champion_number,
    read_records,
    shown_version,
)
from pipeline.promotion.history import Record, effective
from pipeline.promotion.rollback import roll_back

_SHOWN_COMMIT = 10  # characters


def main() -> None:
    arguments = _parse_arguments()
    name = load_params().register_.name
    if arguments.list:
        print(_listed(name))
        return
    record = roll_back(name, reason=arguments.reason, version=arguments.version)
    print(
        f"{name}: version {record.version} is champion again, "
        f"{shown_version(record.previous)} was. Reason: {record.reason}"
    )
    print(RESTART_SERVERS)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.rollback", description=__doc__)
    parser.add_argument("--reason", default="not given", help="is recorded")
    parser.add_argument(
        "--version", type=int, help="a former champion; default: the one before the present one"
    )
    parser.add_argument(
        "--list", action="store_true", help="print who was champion when, and change nothing"
    )
    return parser.parse_args()


def _listed(name: str) -> str:
    champion = champion_number(name)
    records = effective(read_records(name), champion)
    lines = [f"{name}: {shown_version(champion)} is champion", *map(_line, records)]
    return "\n".join(lines)


def _line(record: Record) -> str:
    return (
        f"  {record.time[:19]}Z  version {record.version:<4} {record.action:<11} "
        f"commit {record.git_commit[:_SHOWN_COMMIT]:<{_SHOWN_COMMIT}}  "
        f"after {shown_version(record.previous)}  {record.reason}"
    )


if __name__ == "__main__":
    run_command(main)

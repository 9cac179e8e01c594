"""Check params.yaml before anything runs: `make repro` does, so that a typo costs a second."""

from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.params import load_params

_DEMO = Path("data/demo")  # built by a pipeline of its own, data/demo/dvc.yaml


def main() -> None:
    data = load_params().data
    for key, path in (("videos", Path(data.videos)), ("labels", Path(data.labels))):
        if not path.exists() and not path.is_relative_to(_DEMO):
            raise PipelineError(
                f"params.yaml: data.{key}: no such file or folder. Received: {path} "
                "(paths are relative to the root of the repository, or absolute)"
            )


if __name__ == "__main__":
    run_command(main)

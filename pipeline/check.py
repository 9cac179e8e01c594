"""Check params.yaml before anything runs: `make repro` does, so that a typo costs a second."""

from pathlib import Path

from pipeline.base.command import run_command
from pipeline.base.errors import PipelineError
from pipeline.params import DataParams, Params, load_params

_DEMO = Path("data/demo")  # built by a pipeline of its own, data/demo/dvc.yaml


def main() -> None:
    params = load_params()
    _check_data(params.data)
    _check_model(params)


def _check_data(data: DataParams) -> None:
    for key, path in (("videos", Path(data.videos)), ("labels", Path(data.labels))):
        if not path.exists() and not path.is_relative_to(_DEMO):
            raise PipelineError(
                f"params.yaml: data.{key}: no such file or folder. Received: {path} "
                "(paths are relative to the root of the repository, or absolute)"
            )


def _check_model(params: Params) -> None:
    cnn = params.model.cnn
    is_counted = isinstance(cnn.trainable, int)
    if cnn.backbone == "small_cnn" and cnn.weights == "none" and not is_counted:
        return  # nothing can be wrong with it
    # Here, because Keras takes seconds to import.
    from pipeline.model.classifier import check_classifier
    from pipeline.stages.train import architecture

    frame_shape = (params.decode.height, params.decode.width, 3)
    check_classifier(architecture(params), frame_shape=frame_shape)


if __name__ == "__main__":
    run_command(main)

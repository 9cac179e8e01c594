"""What `make repro` looks at before it starts."""

from pathlib import Path

import pytest
import yaml

from pipeline.base.errors import PipelineError
from pipeline.check import main


@pytest.fixture
def check(tmp_path, monkeypatch):
    """Check the committed params.yaml with keys of model.cnn changed."""
    content = yaml.safe_load(Path("params.yaml").read_text())

    def check(**cnn: object) -> None:
        content["model"]["cnn"].update(cnn)
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        monkeypatch.chdir(tmp_path)
        main()

    return check


def test_the_committed_params_pass(check):
    check()


@pytest.mark.parametrize(
    ("cnn", "message"),
    [
        (
            {"trainable": 9},
            "model.cnn.trainable: expected all, none or at most 4, the number of layers with "
            "weights. Received: 9",
        ),
        (
            {"backbone": "InceptionV3"},
            "decode.width, decode.height: InceptionV3 takes no frames of this size (Input size "
            "must be at least 75x75). Received: 64 x 64",
        ),
    ],
)
def test_a_model_that_cannot_be_built_is_refused(check, cnn, message):
    with pytest.raises(PipelineError) as caught:
        check(**cnn)
    assert str(caught.value) == message

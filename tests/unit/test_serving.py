"""Requests, scores and answers of a served model whose answers can be computed by hand."""

import base64
import json
import shutil
import socket
import tempfile
from pathlib import Path

import cv2
import keras
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.model import PythonModelContext
from mlflow.types import DataType

from pipeline.clips.arrays import ClipArrays
from pipeline.clips.preprocessing import Preprocessing
from pipeline.clips.settings import ExtractSection
from pipeline.clips.shards import write_clips
from pipeline.common.errors import PipelineError
from pipeline.common.records import VideoRecord
from pipeline.common.side_inputs import SideInput
from pipeline.compute.settings import ComputeSection
from pipeline.evaluation.predictions import predict_videos
from pipeline.model.network import build_model
from pipeline.model.saving import ModelMetadata
from pipeline.model.settings import ModelSection
from pipeline.serving.decoding import Decoder
from pipeline.serving.pyfunc import ServingError, VideoModel, signature_of
from pipeline.serving.request import (
    InvalidRequest,
    RequestOptions,
    ServingConfig,
    VideoRequest,
    request_from_row,
)
from pipeline.serving.scorer import Scorer
from pipeline.serving.server import (
    check_port,
    serve_command,
    server_environment,
    serving_config,
)
from pipeline.serving.settings import ServeSection
from pipeline.tasks.caption import Caption
from pipeline.tasks.classification import Classification
from pipeline.tasks.frames import Frames
from pipeline.tasks.intervals import ClipFrames
from pipeline.tasks.targets import targets_of
from pipeline.video.batch import decode_records
from pipeline.video.opening import VideoError
from pipeline.video.reading import Segment
from pipeline.video.settings import DecodeSection
from pipeline.video.store import load_frames, stored_path
from pipeline.video.writing import encode_mp4
from tests.brightness_model import (
    CLASSES,
    DECODE,
    brightness,
    brightness_model,
    metadata,
    write_model,
)
from tests.conftest import numbered_frames


@pytest.fixture(scope="module")
def mp4() -> bytes:
    """Ten numbered frames at 10 fps."""
    return encode_mp4(numbered_frames(10), fps=10)


def request_of(content: bytes | Path, number: int = 1) -> VideoRequest:
    return VideoRequest(content, f"Video {number}: it")


# Rows and params of a request


@pytest.fixture
def root(tmp_path, mp4) -> Path:
    """A folder that may be read, with links inside it and out of it, beside a secret."""
    (tmp_path / "secret.mp4").write_bytes(mp4)
    (tmp_path / "rooted").mkdir()
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a b.mp4").write_bytes(mp4)
    (folder / "link in.mp4").symlink_to("inner/a b.mp4")
    (folder / "link out.mp4").symlink_to(tmp_path / "secret.mp4")
    (folder / "folder out").symlink_to(tmp_path)
    (folder / "loop").symlink_to("loop")
    return folder


@pytest.mark.parametrize("path", ["inner/a b.mp4", "link in.mp4", "inner/../inner/a b.mp4"])
def test_a_path_below_the_root_is_read(root, path):
    request = request_from_row({"video": None, "path": path}, number=3, path_root=str(root))
    assert request == VideoRequest(root / "inner" / "a b.mp4", f"Video 3: {path}")
    absolute = {"path": str(root / path)}
    assert request_from_row(absolute, number=1, path_root=str(root)).content == request.content


@pytest.mark.parametrize(
    "path",
    [
        "../secret.mp4",
        "inner/../../secret.mp4",
        "link out.mp4",
        "folder out/secret.mp4",
        "/etc/passwd",
        "../rooted/a.mp4",  # a sibling whose name begins with that of the root
        "../nowhere.mp4",
        "loop",
        "a\0b.mp4",
    ],
)
def test_a_path_that_leads_out_of_the_root_is_refused(root, path):
    with pytest.raises(InvalidRequest) as caught:
        request_from_row({"path": path}, number=2, path_root=str(root))
    shown = path.replace("\0", r"\x00")
    assert str(caught.value).startswith(
        f"Video 2: {shown}: expected a path below the folder that this server reads"
    )


@pytest.mark.parametrize(
    ("path", "shown"),
    [("a\nb.mp4", r"a\nb.mp4"), ("a\udcff.mp4", r"a\xff.mp4"), ("a\ud800.mp4", r"a\ud800.mp4")],
)
def test_a_path_is_one_line_of_valid_text_in_messages(root, path, shown):
    with pytest.raises(InvalidRequest) as caught:
        request_from_row({"path": path}, number=2, path_root="")
    assert str(caught.value).startswith(f"Video 2: {shown}: this server does not")
    with pytest.raises(InvalidRequest) as caught:
        request_from_row({"path": f"../{path}"}, number=2, path_root=str(root))
    assert str(caught.value).startswith(f"Video 2: ../{shown}: expected a path below")


def test_a_folder_of_pictures_below_the_root_is_read_if_no_link_leads_out(root):
    folder = root / "clip"
    folder.mkdir()
    for number in (1, 2):
        cv2.imwrite(str(folder / f"{number}.png"), numbered_frames(1)[0])
    request = request_from_row({"path": "clip"}, number=1, path_root=str(root))
    assert request.content == folder
    (folder / "3.png").symlink_to(root.parent / "secret.mp4")
    with pytest.raises(InvalidRequest, match="expected a path below the folder"):
        request_from_row({"path": "clip"}, number=1, path_root=str(root))


def test_without_a_root_no_path_is_read(root):
    with pytest.raises(InvalidRequest, match=r"^Video 1: .*serve\.path_root"):
        request_from_row({"path": str(root / "link in.mp4")}, number=1, path_root="")


@pytest.mark.parametrize("missing", [None, float("nan"), "", b""])
def test_a_row_needs_a_video_or_a_path(missing):
    row = {"video": b"a!", "path": missing}
    assert request_from_row(row, number=1, path_root="").content == b"a!"
    with pytest.raises(InvalidRequest, match=r"^Video 1: expected either.*Received: neither"):
        request_from_row({"video": missing}, number=1, path_root="/")


def test_base64_that_mlflow_did_not_decode_is_decoded(mp4):
    for content in (mp4, base64.b64encode(mp4), np.bytes_(base64.b64encode(mp4))):
        request = request_from_row({"video": content}, number=1, path_root="")
        assert request == VideoRequest(mp4, f"Video 1: <{len(content)} bytes>")


@pytest.mark.parametrize(
    ("bounds", "segment"),
    [
        ({}, Segment()),
        ({"start_seconds": 1, "end_seconds": float("nan")}, Segment(1.0, None)),
        ({"start_seconds": 0.5, "end_seconds": 2}, Segment(0.5, 2.0)),
    ],
)
def test_a_row_selects_a_segment(bounds, segment):
    assert request_from_row({"video": b"a!", **bounds}, number=1, path_root="").segment == segment


@pytest.mark.parametrize("bounds", [(-1, None), (None, 0), (2, 1)])
def test_a_segment_without_duration_is_refused(bounds):
    row = {"video": b"a!", "start_seconds": bounds[0], "end_seconds": bounds[1]}
    with pytest.raises(InvalidRequest, match=r"^Video 4: expected 0 <= start_seconds <"):
        request_from_row(row, number=4, path_root="")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"top_k": -1}, r"^params\.top_k must be 0 .*Received: -1$"),
        ({"clips": -1}, r"^params\.clips must be from 0 .*Received: -1$"),
        ({"clips": 1001}, r"^params\.clips must be .* to 1000\. Received: 1001$"),
    ],
)
def test_params_out_of_range_are_refused(params, message):
    with pytest.raises(InvalidRequest, match=message):
        RequestOptions.from_params(params)


def test_params_that_a_request_lacks_have_their_defaults():
    assert RequestOptions.from_params({"clips": 2}) == RequestOptions(clips=2)


# Scores


def scorer_with(*, abstain_below: float | None = None) -> Scorer:
    decoder = Decoder(DECODE, timeout_seconds=30)
    return Scorer(brightness_model(), metadata(abstain_below=abstain_below), decoder)


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return scorer_with()


def test_a_video_is_scored_on_the_clip_of_training(scorer, mp4):
    (answer,) = scorer.score([request_of(mp4)], RequestOptions())
    # The middle frames of four parts of ten frames.
    assert answer["probabilities"]["light"] == pytest.approx(brightness([1, 3, 6, 8]), abs=2e-3)
    assert list(answer["probabilities"]) == list(CLASSES)
    assert answer["label"] == "dark"
    assert answer["probability"] == answer["probabilities"]["dark"]
    assert answer.keys() == {"label", "probability", "probabilities"}


def test_the_bytes_of_a_picture_are_a_video_of_one_frame(scorer):
    content = cv2.imencode(".jpg", numbered_frames(4)[3])[1].tobytes()
    (answer,) = scorer.score([request_of(content)], RequestOptions(timeline=True))
    assert answer["probabilities"]["light"] == pytest.approx(brightness([3]), abs=2e-3)
    assert [part["end_seconds"] for part in answer["timeline"]] == [0.1]


def test_a_long_video_is_cut_into_clips_whose_outputs_are_averaged(scorer):
    bright = [20 if number in (1, 3, 6, 8) else 0 for number in range(10)]
    video = encode_mp4(numbered_frames(21)[bright], fps=10)
    whole, halves = (scorer.score([request_of(video)], RequestOptions(clips=n))[0] for n in (1, 2))
    # One clip: the middle frames of four parts of the video. Two clips, of its halves: frames
    # 0, 1, 3 and 4, and frames 5, 6, 8 and 9.
    assert whole["probabilities"]["light"] == pytest.approx(brightness([20] * 4), abs=0.01)
    assert halves["probabilities"]["light"] == pytest.approx(brightness([0, 20] * 4), abs=0.01)
    short = encode_mp4(numbered_frames(2), fps=10)  # not longer than a clip
    plain, cut = (scorer.score([request_of(short)], RequestOptions(clips=n))[0] for n in (0, 5))
    assert cut["probabilities"] == plain["probabilities"]


@pytest.mark.parametrize(("above", "expected"), [(-1e-9, True), (0, True), (1e-9, False)])
def test_an_answer_is_confident_from_the_threshold_on(scorer, mp4, above, expected):
    (plain,) = scorer.score([request_of(mp4)], RequestOptions())
    strict = scorer_with(abstain_below=plain["probability"] + above)
    (answer,) = strict.score([request_of(mp4)], RequestOptions(top_k=1, clips=1))
    assert answer["confident"] is expected


def test_the_threshold_does_not_apply_to_other_numbers_of_clips_than_in_training(mp4):
    scorer = scorer_with(abstain_below=0.1)
    (answer,) = scorer.score([request_of(mp4)], RequestOptions(clips=2))
    assert "confident" not in answer


def test_an_unusable_video_ends_the_request_unless_keep_going_is_set(scorer, mp4):
    requests = [request_of(mp4), request_of(b"junk", 2), request_of(mp4, 3)]
    with pytest.raises(VideoError, match=r"^Video 2: it: not a video that can be opened"):
        scorer.score(requests, RequestOptions())
    options = RequestOptions(keep_going=True, timeline=True)
    first, second, third = scorer.score(requests, options)
    assert second.keys() == {"error"}
    assert second["error"].startswith("not a video that can be opened")
    assert first.pop("error") is None
    assert third.pop("error") is None
    (alone,) = scorer.score([request_of(mp4)], RequestOptions(timeline=True))
    assert first == third == alone


def test_a_request_of_unusable_videos_only_is_answered(scorer):
    (answer,) = scorer.score([request_of(b"")], RequestOptions(keep_going=True))
    assert answer == {"error": "the file is empty"}


def test_top_k_names_the_most_probable_classes_first(scorer, mp4):
    (answer,) = scorer.score([request_of(mp4)], RequestOptions(top_k=2))
    assert list(answer["probabilities"]) == ["dark", "light"]
    (answer,) = scorer.score([request_of(mp4)], RequestOptions(top_k=9))
    assert list(answer["probabilities"]) == ["dark", "light", "grey"]


def test_a_timeline_covers_the_video_with_clips_of_consecutive_frames(scorer, mp4):
    plain, over_time = (
        scorer.score([request_of(mp4)], RequestOptions(timeline=timeline))[0]
        for timeline in (False, True)
    )
    timeline = over_time.pop("timeline")
    assert over_time == plain
    assert [(part["start_seconds"], part["end_seconds"]) for part in timeline] == [
        (0.0, 0.4), (0.3, 0.7), (0.6, 1.0),
    ]  # fmt: skip
    assert [part["probabilities"]["light"] for part in timeline] == pytest.approx(
        [brightness([0, 1, 2, 3]), brightness([3, 4, 5, 6]), brightness([6, 7, 8, 9])], abs=2e-3
    )
    assert timeline[0].keys() == {"start_seconds", "end_seconds", "probabilities"}


def test_the_timeline_of_a_segment_counts_from_the_first_frame_of_the_video(scorer, mp4):
    request = VideoRequest(mp4, "it", Segment(0.5, 0.9))
    (answer,) = scorer.score([request], RequestOptions(timeline=True))
    (part,) = answer["timeline"]
    assert (part["start_seconds"], part["end_seconds"]) == (0.5, 0.9)
    assert part["probabilities"]["light"] == pytest.approx(brightness([5, 6, 7, 8]), abs=2e-3)


def test_a_video_shorter_than_a_clip_is_one_timeline_segment(scorer):
    short = encode_mp4(numbered_frames(2), fps=10)
    (answer,) = scorer.score([request_of(short)], RequestOptions(timeline=True))
    (part,) = answer["timeline"]
    assert (part["start_seconds"], part["end_seconds"]) == (0.0, 0.2)
    assert part["probabilities"] == answer["probabilities"]


def test_videos_of_several_batches_are_answered_in_order(scorer, mp4):
    bright = encode_mp4(numbered_frames(28)[20:], fps=10)
    answers = scorer.score([request_of(mp4)] * 65 + [request_of(bright)], RequestOptions())
    light = [answer["probabilities"]["light"] for answer in answers]
    assert light[:65] == pytest.approx([brightness([1, 3, 6, 8])] * 65, abs=2e-3)
    assert light[65] == pytest.approx(brightness([21, 23, 25, 27]), abs=2e-3)


def test_a_server_averages_the_clips_that_evaluate_averages(tmp_path):
    """Decode, extract and evaluate give the answers of the server, also for several clips."""
    extract = ExtractSection(frames=4, clips_per_video=3)
    task = Classification(("left", "right", "up"), target_accuracy=0.95)
    lengths = {"2.mp4": 2, "5.mp4": 5, "9.mp4": 9}
    generator = np.random.default_rng(0)
    for name, length in lengths.items():
        noise = generator.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        (tmp_path / name).write_bytes(encode_mp4(noise, fps=10))
    records = decode_records(
        tmp_path / "frames",
        [VideoRecord(name, "up", "test", name, sha256=name) for name in lengths],
        videos=tmp_path,
        decode=DECODE,
        compute=ComputeSection(workers=1),
    )
    write_clips(
        tmp_path / "test",
        records,
        load=lambda record, indices: load_frames(
            stored_path(tmp_path / "frames", record.facts.key), DECODE, indices
        ),
        extract=extract,
        frame_size=(16, 16),
    )
    clips = ClipArrays(tmp_path / "test")
    # Two frames give one clip, five give two different ones, nine give three.
    assert len(clips) == 6
    keras.utils.set_random_seed(0)
    section = ModelSection.model_validate(
        {"cnn": {"filters": [4]}, "frame_features": 8, "temporal": {"units": [8]}}
    )
    model = build_model(section, task, frame_shape=(16, 16, 3))
    predictions = predict_videos(model, clips, task)
    evaluated = dict(zip(predictions.videos, predictions.outputs, strict=True))

    served = ModelMetadata(task, Preprocessing(DECODE, extract))
    scorer = Scorer(model, served, Decoder(DECODE, timeout_seconds=30))
    requests = [VideoRequest(tmp_path / name, name) for name in lengths]
    averaged, single = (scorer.score(requests, RequestOptions(clips=n)) for n in (0, 1))
    for name, answer, alone in zip(lengths, averaged, single, strict=True):
        expected = evaluated[name]
        assert list(answer["probabilities"].values()) == pytest.approx(expected, abs=1e-6)
        assert answer["label"] == task.class_names[expected.argmax()]
        differs = not np.allclose(list(alone["probabilities"].values()), expected, atol=1e-5)
        assert differs == (name != "2.mp4")


# The model as MLflow serves it


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> VideoModel:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return served_from(folder)


def served_from(folder: Path) -> VideoModel:
    artifacts = {"model": str(folder / "model.keras"), "metadata": str(folder / "model.json")}
    model = VideoModel()
    model.load_context(PythonModelContext(artifacts, {"path_root": ""}))
    return model


def predict(model: VideoModel, rows: list[dict], **params) -> list[dict]:
    return model.predict(None, pd.DataFrame(rows), params).to_dict("records")


def test_a_row_with_a_video_gets_an_answer(served, mp4):
    (answer,) = predict(served, [{"video": mp4}])
    assert answer["label"] == "dark"
    assert answer["probabilities"]["light"] == pytest.approx(brightness([1, 3, 6, 8]), abs=2e-3)


def test_missing_values_are_none_and_not_nan(served, mp4):
    good, bad = predict(served, [{"video": mp4}, {"video": b"junk"}], keep_going=True)
    assert good["error"] is None
    assert bad["label"] is None
    assert bad["error"].startswith("not a video that can be opened")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "Expected one row a video"),
        ([{"video": b"junk"}], "Video 1: <4 bytes>: not a video that can be opened"),
        ([{"path": "/etc/passwd"}], "Video 1: /etc/passwd: this server does not read files"),
    ],
)
def test_an_invalid_request_is_answered_with_its_message_only(served, rows, message):
    with pytest.raises(ServingError) as caught:
        predict(served, rows)
    answer = json.loads(caught.value.serialize_as_json())
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"  # status 400
    assert answer["message"].startswith(message)


def test_a_fault_of_the_machine_is_not_an_error_of_the_request(served, mp4, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/null/tmp")
    with pytest.raises(ServingError) as caught:
        predict(served, [{"video": mp4}])
    answer = json.loads(caught.value.serialize_as_json())
    assert answer["error_code"] == "INTERNAL_ERROR"  # status 500
    assert "Not a directory" in answer["message"]
    assert "/dev/null" not in answer["message"]


def test_a_server_answers_for_every_frame_of_a_long_video_as_evaluate_does(tmp_path):
    """Windows of at most four frames; 2, 5 and 9 frames are 1, 2 and 3 windows."""
    extract = ExtractSection(frames=4, sampling="consecutive")
    task = Frames(("left", "right"), fps=10)
    target = "0 to 0.3 left|0.3 to end right"
    generator = np.random.default_rng(0)
    lengths = {"2.mp4": 2, "5.mp4": 5, "9.mp4": 9}
    for name, length in lengths.items():
        noise = generator.integers(0, 256, (length, 32, 32, 3), dtype=np.uint8)
        (tmp_path / name).write_bytes(encode_mp4(noise, fps=10))
    records = decode_records(
        tmp_path / "frames",
        [VideoRecord(name, target, "test", name, sha256=name) for name in lengths],
        videos=tmp_path,
        decode=DECODE,
        compute=ComputeSection(workers=1),
    )
    write_clips(
        tmp_path / "test",
        records,
        load=lambda record, indices: load_frames(
            stored_path(tmp_path / "frames", record.facts.key), DECODE, indices
        ),
        extract=extract,
        frame_size=(16, 16),
        target_of=lambda record, window: targets_of("frames").of_clip(
            record.target, ClipFrames(range(*window), 4, 10)
        ),
    )
    clips = ClipArrays(tmp_path / "test")
    assert len(clips) == 6
    keras.utils.set_random_seed(0)
    section = ModelSection.model_validate(
        {"cnn": {"filters": [4]}, "frame_features": 8, "temporal": {"units": [8]}}
    )
    model = build_model(section, task, frame_shape=(16, 16, 3))
    predictions = predict_videos(model, clips, task)
    assert predictions.targets == (target,) * 3
    scorer = Scorer(
        model,
        ModelMetadata(task, Preprocessing(DECODE, extract)),
        Decoder(DECODE, timeout_seconds=60),
    )
    requests = [request_of(tmp_path / name) for name in predictions.videos]
    answers = scorer.score(requests, RequestOptions(timeline=True))
    for answer, name in zip(answers, predictions.videos, strict=True):
        starts = [part["start_seconds"] for part in answer["timeline"]]
        assert starts == pytest.approx(np.arange(lengths[name]) / 10)
        assert answer["segments"][0]["start_seconds"] == 0
        assert answer["segments"][-1]["end_seconds"] == pytest.approx(lengths[name] / 10)
    learnt, outputs = Frames.outputs_from_answers(answers, predictions.targets)
    assert learnt == task
    np.testing.assert_allclose(outputs, predictions.outputs, atol=1e-6)
    part = VideoRequest(tmp_path / "9.mp4", "it", Segment(0.5, 0.9))
    (answer,) = scorer.score([part], RequestOptions(timeline=True))
    assert answer["timeline"][0]["start_seconds"] == answer["segments"][0]["start_seconds"] == 0.5
    assert answer["timeline"][-1]["end_seconds"] == pytest.approx(0.9)


def test_the_signature_lists_the_fields_of_segments():
    fields = signature_of(Frames(("left", "right"), fps=10)).outputs.input_dict()
    assert "confidence: double" in str(fields["segments"])
    assert "probabilities" in str(fields["timeline"])


def test_the_signature_lists_the_fields_of_the_task():
    signature = signature_of(metadata().task)
    assert signature.inputs.input_names() == ["video", "path", "start_seconds", "end_seconds"]
    assert signature.outputs.input_names() == [
        "label", "probability", "probabilities", "confident", "timeline", "error",
    ]  # fmt: skip
    assert [param.name for param in signature.params] == [
        "top_k", "timeline", "clips", "keep_going",
    ]  # fmt: skip
    (segment,) = [column for column in signature.outputs if column.name == "timeline"]
    properties = [part.name for part in segment.type.dtype.properties]
    assert properties == ["end_seconds", "probabilities", "start_seconds"]


def test_the_signature_of_captions_describes_each_word():
    signature = signature_of(Caption(("a", "dog")))
    (words,) = [column for column in signature.outputs if column.name == "words"]
    fields = {part.name: str(part.dtype) for part in words.type.dtype.properties}
    assert fields.keys() == {"word", "log_probability", "attention"}
    assert fields["attention"] == "Array(double)"


def test_a_request_carries_the_side_inputs_of_the_model(tmp_path, mp4):
    """The answer is brightness x number / 10; the model was not asked for the column note."""
    write_model(tmp_path, side_inputs=(SideInput("gain", "number", deviation=10.0),))
    model = served_from(tmp_path)
    rows = [{"video": mp4, "gain": gain, "note": "x"} for gain in (10.0, 5.0)]
    full, half = predict(model, rows, timeline=True)
    assert half["probabilities"]["light"] == pytest.approx(full["probabilities"]["light"] / 2)
    assert half["timeline"][0]["probabilities"]["light"] == pytest.approx(
        full["timeline"][0]["probabilities"]["light"] / 2
    )
    for missing in ({}, {"gain": None}):
        with pytest.raises(ServingError, match=r"^Video 2: the side input gain is missing"):
            predict(model, [rows[0], {"video": mp4, **missing}])


def test_the_signature_lists_the_side_inputs_of_the_model():
    side_inputs = SideInput("age", "number"), SideInput("site", "category", categories=("Rom",))
    columns = signature_of(metadata().task, side_inputs).inputs.input_dict()
    assert (columns["age"].type, columns["site"].type) == (DataType.double, DataType.string)


# The server


def test_the_server_finds_uvicorn_without_an_activated_environment(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert shutil.which("uvicorn") is None
    environment = server_environment(ServingConfig())
    assert shutil.which("uvicorn", path=environment["PATH"]) is not None
    assert environment["PATH"].endswith(":/nowhere")


def test_the_server_uses_the_store_of_this_process(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////other.db")
    mlflow.set_tracking_uri("sqlite:////elsewhere/mlflow.db")
    environment = server_environment(ServingConfig())
    assert environment["MLFLOW_TRACKING_URI"] == "sqlite:////elsewhere/mlflow.db"


def test_the_config_reaches_the_model_as_json():
    config = ServingConfig("/videos", 5, 2)
    content = json.loads(server_environment(config)["SERVING_MODEL_CONFIG"])
    assert ServingConfig.from_json(content) == config
    assert ServingConfig.from_json(None) == ServingConfig(path_root="", decoders=0)


def test_the_server_waits_longer_than_the_decoder():
    config = ServingConfig(timeout_seconds=5)
    command = serve_command("models:/m/3", host="127.0.0.1", port=5001, config=config)
    assert command[1:5] == ["-m", "mlflow", "models", "serve"]
    assert command[command.index("--timeout") + 1] == "65"


def test_the_configuration_comes_from_params(tmp_path):
    decode, compute = DecodeSection(timeout_seconds=7), ComputeSection(workers=3)
    config = serving_config(ServeSection(path_root=str(tmp_path)), decode, compute)
    assert config == ServingConfig(str(tmp_path), 7, 3)
    assert serving_config(ServeSection(), decode, compute).path_root == ""
    with pytest.raises(PipelineError, match=r"serve\.path_root must be a folder.*Received: /none"):
        serving_config(ServeSection(path_root="/none"), decode, compute)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_used_port_is_refused_with_its_number(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = socket.create_server((host, 0), family=family)
    except OSError:
        pytest.skip(f"this machine has no address {host}")
    with server:
        port = server.getsockname()[1]
        with pytest.raises(PipelineError, match=rf"--host {host} --port {port}: .*in use\)"):
            check_port(host, port)
    check_port(host, port)

"""Answers of the registered model: by `vidpipe predict` and over HTTP."""

import base64
import csv
import json
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames
from tests.servers import free_port, running_server

PREDICT = ("vidpipe", "predict")
CHALLENGER = "@challenger"
Answer = tuple[int, dict[str, Any]]  # status, content


def evaluated(workspace) -> dict[str, dict[str, float]]:
    """Read what evaluate wrote: path of the video -> class -> probability."""
    with (workspace.root / "eval/tables/predictions.csv").open() as lines:
        return {
            f"videos/{row['video']}": {name: float(row[f"p_{name}"]) for name in ("left", "right")}
            for row in csv.DictReader(lines)
        }


def test_predict_gives_the_probabilities_of_evaluate(built, tmp_path):
    """From the video file, through the registered model, the very numbers of the test."""
    expected = evaluated(built)
    assert len(expected) >= 4
    output = tmp_path / "found.json"
    built.run(*PREDICT, *expected, "--json", str(output))
    found = {row["video"]: row["probabilities"] for row in json.loads(output.read_text())}
    assert list(found) == list(expected)
    for video, probabilities in expected.items():
        assert found[video] == pytest.approx(probabilities, abs=1e-6)


def assert_shows_frames_of_one_video(path: Path) -> None:
    """Eight frames of 72 pixels in one line below one heading, between white margins."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    is_blank = (pixels == 255).all(axis=1)
    lines = np.count_nonzero(np.diff(is_blank.astype(int)) == -1)  # a line begins
    assert lines == 2  # the heading and the strip
    assert pixels.shape[1] >= 8 * 72


def test_predict_goes_on_past_bad_files_and_fails_in_the_end(built, tmp_path):
    shutil.copy(built.root / "videos/left/000.mp4", tmp_path / "a b.mp4")
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    preview = tmp_path / "seen.png"
    preview_of = ("--preview", str(preview))
    done = built.run(*PREDICT, str(tmp_path), "none.mp4", *preview_of, check=False)
    assert done.returncode == 1
    assert_shows_frames_of_one_video(preview)
    (good, *_) = [line for line in done.stdout.splitlines() if "a b.mp4" in line]
    assert "left 0." in good
    assert "right 0." in good
    assert "2 of 3 videos could not be predicted." in done.stdout
    assert re.search(r"junk\.mp4 +error: not a video that can be opened", done.stdout)
    assert re.search(r"none\.mp4 +error: cannot be read \(No such file or dir", done.stdout)
    assert done.stdout.count("junk.mp4") == 1
    assert "Traceback" not in done.stdout


def test_predict_without_a_model_names_the_remedy(workspace):
    done = workspace.run(*PREDICT, "videos/left/000.mp4", check=False)
    assert done.returncode == 1
    assert "error: " in done.stdout
    assert "vidpipe repro" in done.stdout
    assert "Traceback" not in done.stdout


def test_serve_without_a_champion_names_the_remedy(built):
    done = built.run("vidpipe", "serve", check=False)
    assert done.returncode == 1
    assert "video-classifier" in done.stdout
    assert "vidpipe promote" in done.stdout
    assert "Traceback" not in done.stdout


_PLAIN_TENSORFLOW = """
import json, sys
import numpy as np, tensorflow as tf

served = tf.saved_model.load("exported/saved_model").signatures["serving_default"]
clips = np.load(sys.argv[1] + ".frames.npy"), np.load(sys.argv[1] + ".mask.npy")
frames, mask = map(tf.constant, clips)
assert "keras" not in str(type(served)) and "pipeline" not in sys.modules
print(json.dumps(served(frames=frames, mask=mask)["output_0"].numpy().tolist()))
"""


@pytest.mark.long
def test_the_exported_model_needs_nothing_but_tensorflow(built, tmp_path):
    exported = tmp_path / "exported"
    built.run("vidpipe", "export", CHALLENGER, "--output", str(exported))
    assert {path.name for path in exported.iterdir()} == {
        "model.keras", "model.json", "saved_model",
    }  # fmt: skip
    for name in ("model.keras", "model.json"):
        assert (exported / name).read_bytes() == (built.root / "models" / name).read_bytes()
    clips = built.root / "data/clips/test"
    expected = evaluated(built)
    shards: dict[str, dict[int, str]] = {}
    with (clips / "clips.csv").open() as lines:
        for row in csv.DictReader(lines):
            shards.setdefault(row["shard"], {})[int(row["row"])] = f"videos/{row['name']}"
    number, videos = max(shards.items(), key=lambda item: len(item[1]))
    printed = subprocess.check_output(
        [sys.executable, "-c", _PLAIN_TENSORFLOW, str(clips / f"{int(number):02d}")],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    found = json.loads(printed.splitlines()[-1])
    assert len(found) == len(videos) >= 1
    for row, probabilities in enumerate(found):
        wanted = list(expected[videos[row]].values())
        assert probabilities == pytest.approx(wanted, abs=1e-6)


@pytest.fixture(scope="module")
def post(built) -> Callable[..., Answer]:
    """Post a JSON object to the scoring server of the challenger."""
    port = free_port()
    vidpipe = Path(sys.executable).with_name("vidpipe")
    command = [vidpipe, "serve", CHALLENGER, "--port", str(port)]

    def post(**content: object) -> Answer:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations",
            json.dumps(content).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    with running_server(command, cwd=built.root, health=f"http://127.0.0.1:{port}/ping"):
        yield post


def as_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def test_a_video_over_http_gets_the_probabilities_of_evaluate(built, post):
    expected = evaluated(built)
    rows = [{"video": as_base64(built.root / video)} for video in expected]
    status, answer = post(dataframe_records=rows)
    assert status == 200
    for found, probabilities in zip(answer["predictions"], expected.values(), strict=True):
        assert found["probabilities"] == pytest.approx(probabilities, abs=1e-6)
        assert found["label"] == max(probabilities, key=lambda name: probabilities[name])
        assert found["probability"] == max(found["probabilities"].values())
        assert found.keys() - {"confident"} == {"label", "probability", "probabilities"}
    assert post(inputs=rows[:1])[1]["predictions"][0]["label"] == answer["predictions"][0]["label"]


def test_params_go_over_http(built, post):
    row = {"video": as_base64(built.root / next(iter(evaluated(built))))}
    _, answer = post(dataframe_records=[row], params={"top_k": 1, "timeline": True})
    (found,) = answer["predictions"]
    assert list(found["probabilities"]) == [found["label"]]
    (part,) = found["timeline"]  # the video is no longer than a clip
    assert part["start_seconds"] == 0
    assert part["probabilities"] == pytest.approx(found["probabilities"], abs=1e-6)
    status, answer = post(dataframe_records=[row], params={"top_k": -1})
    assert status == 400
    assert answer["message"].startswith("params.top_k must be 0")


def test_a_long_video_gets_the_same_timeline_and_clips_over_http_and_by_command(
    built, post, tmp_path
):
    """Two seconds at 10 fps; a clip has eight frames."""
    video, output = tmp_path / "long.mp4", tmp_path / "found.json"
    video.write_bytes(encode_mp4(numbered_frames(20), fps=10))
    row = {"video": as_base64(video)}
    _, answer = post(dataframe_records=[row], params={"timeline": True, "clips": 2})
    (served,) = answer["predictions"]
    times = [(part["start_seconds"], part["end_seconds"]) for part in served["timeline"]]
    assert times == [(0.0, 0.8), (0.6, 1.4), (1.2, 2.0)]
    _, answer = post(dataframe_records=[row])
    (plain,) = answer["predictions"]
    assert plain["probabilities"] != pytest.approx(served["probabilities"], abs=1e-6)

    built.run(*PREDICT, str(video), "--timeline", "--clips", "2", "--json", str(output))
    (found,) = json.loads(output.read_text())
    assert found["probabilities"] == pytest.approx(served["probabilities"], abs=1e-6)
    for part, other in zip(found["timeline"], served["timeline"], strict=True):
        assert part["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
        assert part["start_seconds"] == other["start_seconds"]


def test_a_bad_request_is_told_why_and_the_server_lives(built, post):
    whole = (built.root / "videos/left/000.mp4").read_bytes()
    good = {"video": base64.b64encode(whole).decode()}
    cut = {"video": base64.b64encode(whole[: len(whole) // 2]).decode()}
    for content, message in (
        ({"dataframe_records": [good, cut]}, "Video 2: <"),
        ({"inputs": [good, cut]}, "Video 2: <"),
        ({"dataframe_records": [{"video": "anVuaw=="}]}, "Video 1: <4 bytes>: not a video"),
        ({"dataframe_records": [{"video": "abc"}]}, "Invalid input. Data is not"),  # MLflow's words
        ({"dataframe_records": [{"film": "x"}]}, "Expected one row a video"),
        ({"dataframe_records": [{**good, "path": "x"}]}, "Video 1: expected either the bytes"),
    ):
        status, answer = post(**content)
        assert status == 400
        assert answer["message"].startswith(message)
        assert "Traceback" not in json.dumps(answer)
        assert post(dataframe_records=[good])[0] == 200


def test_a_server_reads_paths_below_its_root_only(built, post, tmp_path):
    """TINY has serve.path_root: videos."""
    video = next(iter(evaluated(built)))
    status, answer = post(dataframe_records=[{"path": video.removeprefix("videos/")}])
    assert status == 200
    expected = evaluated(built)[video]
    assert answer["predictions"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)
    shutil.copy(built.root / video, tmp_path / "outside.mp4")
    link = built.root / "videos" / "link.mp4"
    link.symlink_to(tmp_path / "outside.mp4")
    try:
        for path in ("link.mp4", "../labels.csv", str(tmp_path / "outside.mp4"), "/etc/passwd"):
            status, answer = post(dataframe_records=[{"path": path}])
            assert status == 400
            expected_message = "expected a path below the folder that this server reads"
            assert answer["message"].startswith(f"Video 1: {path}: {expected_message}")
    finally:
        link.unlink()

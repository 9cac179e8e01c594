"""Count the videos that the decode stage decodes after a change of one video.

`python -m benchmarks.incremental [--videos 1000]` creates a project folder with small videos
(H.264, 240p, 2 s) and runs the stages catalog and decode in it. Decoded videos are the files of
the frame store that a run wrote. Times are wall times of the decode stage, including the start of
its process; medians of repeated steps, which take turns. The last line of the output is JSON;
`full_over_<step>` is the time of decoding all videos over that of a step.
"""

import argparse
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from tqdm import tqdm

from benchmarks.made_videos import SHORT, make_video
from benchmarks.timing import seconds_of
from pipeline.common.paths import FRAMES, PARAMS
from pipeline.video.store import SUFFIX

_REPOSITORY = Path(__file__).resolve().parents[1]
_CLASSES = ("first", "second")
_SCENES = 8
_SECONDS = 2


@dataclass(frozen=True)
class Step:
    """The result of one run of the decode stage."""

    decoded: int
    seconds: float


class Project:
    """A project folder with ``count`` videos, no two with the same content.

    The scenes repeat. A box of type ``free``, which players skip (ISO/IEC 14496-12, 8.1.2), makes
    the contents different.
    """

    def __init__(self, root: Path, *, count: int) -> None:
        self._root = root
        self._store = root / FRAMES
        self._scenes = [_scene(root, seed) for seed in range(_SCENES)]
        self._contents = 0  # number of different contents so far
        self._set_params()
        for name in _CLASSES:
            (root / "videos" / name).mkdir(parents=True)
        self.videos: list[Path] = []
        for _ in range(count):
            self.add()

    def add(self) -> None:
        number = len(self.videos)
        path = self._root / "videos" / _CLASSES[number % len(_CLASSES)] / f"{self._contents}.mp4"
        path.write_bytes(self._new_content())
        self.videos.append(path)

    def change(self) -> None:
        self.videos[0].write_bytes(self._new_content())
        self.videos.append(self.videos.pop(0))  # the next step uses another one

    def rename(self) -> None:
        path = self.videos.pop(0)
        self.videos.append(path.rename(path.with_stem(f"renamed-{path.stem}")))

    def remove(self) -> None:
        self.videos.pop(0).unlink()

    def damage(self) -> None:
        """Invert one byte in the middle of a stored video."""
        path = min(self._store.glob(f"*{SUFFIX}"))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)

    def request_smaller_frames(self) -> None:
        self._set_params(width=48, height=48)

    def run(self) -> Step:
        """Run the stages and count the decoded videos."""
        self._stage("catalog")
        before = self._written()
        seconds = seconds_of(lambda: self._stage("decode"))
        after = self._written()
        if len(after) != len(self.videos):
            raise SystemExit(f"Expected {len(self.videos)} stored videos. Received: {len(after)}")
        return Step(len(after.items() - before.items()), seconds)

    def _written(self) -> dict[str, tuple[int, int]]:
        """Return when each stored video was written, as its inode and time in nanoseconds."""
        stats = {path.name: path.stat() for path in self._store.glob(f"*{SUFFIX}")}
        return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}

    def _stage(self, name: str) -> None:
        command = [sys.executable, "-m", f"pipeline.stages.{name}"]
        environment = {**os.environ, "PYTHONPATH": str(_REPOSITORY)}
        process = subprocess.run(
            command, cwd=self._root, env=environment, capture_output=True, text=True, check=False
        )
        if process.returncode != 0:
            raise SystemExit(f"The stage {name} failed:\n{process.stderr}")

    def _set_params(self, **decode: int) -> None:
        params = yaml.safe_load((_REPOSITORY / PARAMS).read_text("utf-8"))
        params["data"] = {"videos": "videos", "labels": ""}
        # Large shares, so that no split of few videos is empty.
        params["catalog"] |= {"val_share": 0.3, "test_share": 0.3}
        params["decode"] |= decode
        (self._root / PARAMS).write_text(yaml.safe_dump(params), "utf-8")

    def _new_content(self) -> bytes:
        self._contents += 1
        scene = self._scenes[self._contents % _SCENES]
        return scene + struct.pack(">I4sQ", 16, b"free", self._contents)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.incremental", description=__doc__)
    parser.add_argument("--videos", type=int, default=1000, help="default: 1000")
    parser.add_argument("--repetitions", type=int, default=5, help="of each step; default: 5")
    options = parser.parse_args()
    if options.repetitions < 1 or options.videos <= 2 * options.repetitions:
        parser.error("expected --repetitions of at least 1 and more than twice as many --videos")
    with tempfile.TemporaryDirectory(prefix="incremental-") as folder:
        project = Project(Path(folder), count=options.videos)
        print(json.dumps(_measure(project, options.repetitions)))


def _measure(project: Project, repetitions: int) -> dict[str, float]:
    videos = len(project.videos)
    full = _print("full", project.run())
    report: dict[str, float] = {
        "videos": videos,
        "decoded_full": full.decoded,
        "seconds_full": round(full.seconds, 2),
        "videos_per_second": round(videos / full.seconds, 1),
    }
    steps: dict[str, Callable[[], None]] = {
        "nothing": lambda: None,
        "add": project.add,
        "change": project.change,
        "rename": project.rename,
        "remove": project.remove,
        "damage": project.damage,
    }
    runs: dict[str, list[Step]] = {name: [] for name in steps}
    for _ in tqdm(range(repetitions), desc="measure", disable=None):
        for name, change in steps.items():
            change()
            runs[name].append(_print(name, project.run()))
    project.request_smaller_frames()
    runs["param"] = [_print("param", project.run())]
    for name, repeated in runs.items():
        report[f"decoded_after_{name}"] = max(step.decoded for step in repeated)
        seconds = statistics.median(step.seconds for step in repeated)
        report[f"seconds_{name}"] = round(seconds, 2)
        report[f"full_over_{name}"] = round(full.seconds / seconds, 2)
    return report


def _scene(root: Path, seed: int) -> bytes:
    path = make_video(root / "scene.mp4", SHORT["h264_240p"], seconds=_SECONDS, seed=seed)
    return path.read_bytes()


def _print(name: str, step: Step) -> Step:
    print(f"{name:8} {step.decoded:6} decoded {step.seconds:8.2f} s", flush=True)
    return step


if __name__ == "__main__":
    main()

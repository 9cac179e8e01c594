"""Propose settings for a data set, and estimate what they cost."""

import math
import os
import re
import statistics
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.common.records import SPLITS
from pipeline.common.tables import duration, size_text
from pipeline.dataset.layouts import LABELS_TABLE
from pipeline.params import Params
from pipeline.setup.inspection import Inspection

_MAX_KEPT_FRAMES = 300  # of the median video
_LONGEST_CLIP = 32  # frames
_SHORTEST_CLIP = 8
_SECONDS_OF_LONG_VIDEOS = 10.0
_LONGEST_SIDE_RATIO = 2.0  # beyond it, cropping to a square loses most of the picture
_SMALLEST_SIDE = 32

# Of a training step, for each pixel: `make repro` prints about 168 ms for 16 clips of 20 frames of
# 64 x 64 pixels with two streams, on two cores.
_SECONDS_PER_PIXEL = 0.168 / (16 * 20 * 64 * 64)


@dataclass(frozen=True)
class Proposal:
    """Settings for a data set.

    Attributes:
        values: by dotted key of params.yaml.
        reasons: why a value was chosen, by the same keys.
    """

    values: dict[str, Any]
    reasons: dict[str, str]


def propose(inspection: Inspection, params: Params, *, videos: str) -> Proposal:
    """Return settings for the videos; those that fit every data set stay as they are.

    Args:
        params: the present settings.
        videos: value of ``data.videos``.
    """
    facts = [probe.facts for probe in inspection.readable if probe.facts is not None]
    seconds = sorted(probe.seconds for probe in inspection.readable if probe.seconds)
    rates = [fact.source_fps for fact in facts if fact.source_fps]
    sizes = [fact.upright_size for fact in facts if fact.upright_size]
    values: dict[str, Any] = {
        "data.videos": videos,
        "data.labels": inspection.labels,
        "task.type": inspection.task_type,
    }
    reasons = {}
    if params.data.videos != videos or params.task.type != inspection.task_type:
        values |= {"data.side_inputs": {}, "register.name": _model_name(inspection)}
        reasons["register.name"] = "of the folder: a model has versions of one data set and task"
    if sizes:
        shorter = statistics.median(min(size) for size in sizes)
        side = max(_SMALLEST_SIDE, min(64, int(shorter) // 16 * 16))
        ratio = statistics.median(max(size) / min(size) for size in sizes)
        values |= {"decode.width": side, "decode.height": side}
        values["decode.fit"] = "letterbox" if ratio > _LONGEST_SIDE_RATIO else "crop"
        reasons["decode.width"] = f"the shorter side of the median video has {shorter:g} pixels"
        reasons["decode.fit"] = f"the longer side is {ratio:.1f} times the shorter one"
    if seconds:
        median, longer = statistics.median(seconds), seconds[math.ceil(0.9 * len(seconds)) - 1]
        rate = statistics.median(rates) if rates else 10.0
        # The clips of some tasks cover the video: every frame that is kept is used.
        enough = math.inf if inspection.targets.covers_videos else _MAX_KEPT_FRAMES / median
        fps = _round_rate(min(10.0, rate, enough))
        if longer < _SHORTEST_CLIP / fps:  # very short videos: more of their frames
            fps = _round_rate(min(rate, 25.0, _SHORTEST_CLIP / longer))
        longest = _LONGEST_CLIP if median > _SECONDS_OF_LONG_VIDEOS else 20
        values["decode.fps"] = fps
        values["extract.frames"] = max(1, min(longest, math.ceil(longer * fps)))
        reasons["decode.fps"] = f"the median video lasts {duration(median)} and has {rate:.3g} fps"
        reasons["extract.frames"] = f"nine of ten videos have at most {math.ceil(longer * fps)}"
        if seconds[-1] > params.decode.max_seconds:
            values["decode.max_seconds"] = math.ceil(seconds[-1] / 600) * 600
            reasons["decode.max_seconds"] = f"the longest video lasts {duration(seconds[-1])}"
    elif facts:  # pictures
        values |= {
            "extract.frames": 1,
            "model.streams": ["frames"],
            "model.temporal.recurrent": "none",
            "model.temporal.summary": "mean",
        }
        reasons["extract.frames"] = "the videos are single pictures"
    return Proposal(values, reasons)


def _round_rate(fps: float) -> float:
    """Return a rate with two significant digits, as an integer where it is one."""
    rounded = float(f"{fps:.2g}")
    return int(rounded) if rounded.is_integer() else rounded


def _model_name(inspection: Inspection) -> str:
    name = unicodedata.normalize("NFKD", inspection.folder.resolve().name.lower())
    name = re.sub(r"[^a-z0-9]+", "-", name.encode("ascii", "ignore").decode()).strip("-")
    task = "" if inspection.task_type == "classification" else f"-{inspection.task_type}"
    return f"{name or 'video'}{task}"


def estimates(inspection: Inspection, params: Params) -> list[tuple[str, str]]:
    """Return the expected size and time of the stages, as lines of a table.

    Args:
        params: the proposed settings.
    """
    decode, extract = params.decode, params.extract
    seconds = [probe.seconds or 0.0 for probe in inspection.readable]
    total = statistics.fmean(seconds) * len(inspection.records)
    frame_bytes = decode.width * decode.height * 3
    n_frames = max(total * decode.fps, len(inspection.records))
    timed = [probe for probe in inspection.probes if probe.decode_seconds is not None]
    lines = []
    if timed:
        compression = statistics.fmean(probe.compression for probe in timed)
        per_frame = sum(p.decode_seconds or 0.0 for p in timed) / sum(p.frames for p in timed)
        seconds_needed = n_frames * per_frame / (os.cpu_count() or 1)
        lines.append(
            ("decode", f"about {duration(seconds_needed)}, measured on {len(timed)} videos")
        )
    else:
        compression = 1.0
    n_clips = len(inspection.records) * extract.clips_per_video
    if inspection.targets.covers_videos:
        n_clips = math.ceil(n_frames / extract.frames)
    clips = n_clips * extract.frames * frame_bytes
    disk = n_frames * frame_bytes * compression + clips
    lines.append(("disk", f"{size_text(disk)} of frames and clips, beside the videos"))
    if params.model.cnn.backbone == "small_cnn":
        train = round(n_clips * (1 - params.catalog.val_share - params.catalog.test_share))
        batch = params.train.batch_size
        steps = params.train.n_epochs(max(train, 1)) * math.ceil(max(train, 1) / batch)
        pixels = batch * extract.frames * decode.width * decode.height
        streams = len(params.model.streams) / 2
        text = duration(steps * pixels * streams * _SECONDS_PER_PIXEL)
        lines.append(("train", f"about {text} for {steps:,} steps, on two cores"))
    return lines


def summary_rows(inspection: Inspection) -> list[tuple[str, str]]:
    """Return what was found in the folder, as lines of a table."""
    strata = Counter(inspection.targets.strata([record.target for record in inspection.records]))
    noun = inspection.targets.stratum_name
    facts = [probe.facts for probe in inspection.readable if probe.facts is not None]
    seconds = [probe.seconds for probe in inspection.readable if probe.seconds]
    n_videos = len({record.video for record in inspection.records})
    counts = [f"{name} {count}" for name, count in strata.most_common(8)]
    more = f" and {len(strata) - 8} more" if len(strata) > 8 else ""
    rows = [
        ("labels", inspection.labels or (LABELS_TABLE if inspection.has_table else "folders")),
        ("task", inspection.task_type),
        ("videos", f"{n_videos:,}, {size_text(inspection.n_bytes)}"),
    ]
    if len(inspection.records) > n_videos:
        rows.append(("segments", f"{len(inspection.records):,}"))
    if len(strata) > 1:
        rows.append((f"{noun}es" if noun.endswith("s") else f"{noun}s", ", ".join(counts) + more))
    splits = Counter(record.split for record in inspection.records)
    if given := [f"{split} {splits[split]}" for split in SPLITS if splits[split]]:
        rows.append(("splits", f"{', '.join(given)}, as given"))
    if len(inspection.probes) < len(inspection.records):
        rows.append(("sample", f"{len(inspection.probes)} of them, for the lines below"))
    if seconds:
        total = statistics.fmean(seconds) * len(inspection.records)
        rows.append(
            (
                "durations",
                f"{duration(min(seconds))} to {duration(max(seconds))}, median "
                f"{duration(statistics.median(seconds))}; {duration(total)} in all",
            )
        )
    rows.append(("sizes", _most_common([_size(fact.upright_size) for fact in facts])))
    rates = [f"{fact.source_fps:.3g}" for fact in facts if fact.source_fps]
    rows.append(("frame rates", _most_common(rates)))
    rows.append(("codecs", _most_common([fact.codec or "unknown" for fact in facts])))
    return rows


def _size(size: tuple[int, int] | None) -> str:
    return "unknown" if size is None else f"{size[0]} x {size[1]}"


def _most_common(values: Sequence[str]) -> str:
    counts = Counter(values).most_common()
    more = f" and {len(counts) - 4} more" if len(counts) > 4 else ""
    return ", ".join(f"{value} ({count})" for value, count in counts[:4]) + more

"""What a user should fix or look at in a data set before training."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from pipeline.common.errors import PipelineError
from pipeline.common.findings import Finding, Status
from pipeline.common.records import VideoRecord
from pipeline.common.tables import count_of, shorten_list
from pipeline.common.video_files import size_bytes
from pipeline.dataset.catalog import content_hashes
from pipeline.dataset.names import spelling_remarks, split_named
from pipeline.dataset.splits import assign_splits
from pipeline.importing.datasets import DATA_SETS, recognise
from pipeline.params import Params
from pipeline.setup.inspection import Inspection

_SHOWN = 3  # videos that cannot be read
_UNBALANCED = 5.0  # most frequent class, compared with the rarest


def data_findings(inspection: Inspection, params: Params) -> list[Finding]:
    """Return what is unusual, each with a remedy; with the status ``fail``, repro would fail.

    Args:
        params: the proposed settings.
    """
    targets = inspection.targets.configured(params.task)
    sentences = [record.target for record in inspection.records]
    strata = Counter(targets.strata(sentences))
    findings = [*_unreadable(inspection, params)]
    if targets.class_folders and len(strata) == 1:
        findings.append(Finding("classes", "fail", _one_class(inspection, *strata)))
    else:
        findings += _splits(inspection, params)
    # Names that differ only in case may be the reason for too few videos of a class.
    status: Status = "fail" if any(one.status == "fail" for one in findings) else "warn"
    remarks = spelling_remarks(inspection.records, targets)
    findings = [*(Finding("spelling", status, remark) for remark in remarks), *findings]
    findings += _ignored_splits(inspection)
    if inspection.is_task_guessed and targets.covers_videos:
        sentence = (
            "each frame gets a label, because the intervals follow each other: if each interval "
            "is one example, add --task classification"
        )
        findings.append(Finding("task", "warn", sentence))
    findings += _unseparated_labels(inspection)
    if len(strata) > 1 and max(strata.values()) > _UNBALANCED * min(strata.values()):
        least, most = min(strata, key=strata.__getitem__), max(strata, key=strata.__getitem__)
        sentence = (
            f"{strata[most]} videos of {most!r} and {strata[least]} of {least!r}: consider "
            "train.class_weights: balanced, and look at the recall of each class"
        )
        findings.append(Finding("balance", "warn", sentence))
    known = None if inspection.has_table else recognise(inspection.folder)
    if known:
        sentence = (
            f"{known[1]} is a file of {DATA_SETS[known[0]].title}, which vidpipe import "
            f"{known[0]} reads"
        )
        findings.append(Finding("data set", "warn", sentence))
    if not any(record.group for record in inspection.records) and len(sentences) > len(strata):
        sentence = (
            "no groups: videos of one scene or person may get into different splits; "
            "vidpipe labels proposes groups"
        )
        findings.append(Finding("groups", "warn", sentence))
    return findings


def _unreadable(inspection: Inspection, params: Params) -> Iterator[Finding]:
    """Yield some videos that cannot be read, and whether they are too many."""
    unreadable, n_probes = inspection.unreadable, len(inspection.probes)
    limit = params.decode.max_bad_fraction
    if len(unreadable) > limit * n_probes:
        sentence = (
            f"{len(unreadable)} of {n_probes} videos cannot be read, more than "
            f"decode.max_bad_fraction = {limit:g} allows: repair or remove them, or raise the limit"
        )
        yield Finding("videos", "fail", sentence)
    for probe in unreadable[:_SHOWN]:
        yield Finding("videos", "warn", f"{probe.record.video}: {probe.reason}")
    if len(unreadable) > _SHOWN:
        more = count_of(len(unreadable) - _SHOWN, "more video", "more videos")
        sentence = f"{more} of the sample cannot be read"
        yield Finding("videos", "warn", sentence)


def _one_class(inspection: Inspection, name: str) -> str:
    sentence = f"there is one class, {name!r}: a classifier needs at least two"
    deeper = {tuple(record.video.split("/")[:-1]) for record in inspection.records}
    if any(record.split for record in inspection.records):  # folders of splits, or a table
        return sentence
    if inspection.has_table or any(len(folders) < 2 for folders in deeper):
        return sentence
    outer, inner = min(folders[0] for folders in deeper), sorted({two for _, two, *_ in deeper})
    if len(inner) < 2:
        return sentence
    return (
        f"{sentence}. If {shorten_list(inner)} are classes or splits, name the folder "
        f"{inspection.folder / outer}"
    )


def _unseparated_labels(inspection: Inspection) -> Iterator[Finding]:
    """Yield the first label that seems to be several, with another separator than a bar."""
    if inspection.targets.columns != ("labels",):
        return
    texts = [record.target for record in inspection.records]
    names = sorted({name for own in inspection.targets.split_strata(texts) for name in own})
    if joined := [name for name in names if ";" in name or "," in name]:
        sentence = f"{joined[0]!r} is one label: the separator of labels is |"
        yield Finding("labels", "warn", sentence)


def _ignored_splits(inspection: Inspection) -> Iterator[Finding]:
    """Yield that folders such as ``<class>/train`` are no splits."""
    parts = [record.video.split("/") for record in inspection.records]
    names = sorted({own[1] for own in parts if len(own) > 2 and split_named(own[1])})
    is_given = inspection.has_table or any(record.split for record in inspection.records)
    if not is_given and len(set(map(split_named, names))) > 1:
        sentence = (
            f"the folders {', '.join(names)} below the classes give no splits, which are computed: "
            "for given ones, move the videos to folders such as train/<class>"
        )
        yield Finding("splits", "warn", sentence)


def _splits(inspection: Inspection, params: Params) -> Iterator[Finding]:
    """Yield why the catalog stage would refuse the videos that can be read."""
    unreadable = {probe.record.video for probe in inspection.unreadable}
    records = [record for record in inspection.records if record.video not in unreadable]
    targets = inspection.targets.configured(params.task)
    try:
        assign_splits(_with_hashes_of_copies(inspection, records), params.catalog, targets)
    except PipelineError as error:
        yield Finding("splits", "fail", str(error).rstrip("."))


def _with_hashes_of_copies(
    inspection: Inspection, records: Sequence[VideoRecord]
) -> list[VideoRecord]:
    """Return the records with the hash of the content where another video has the same size.

    Segments of one video have its path instead, unless it has a hash.
    """
    n_rows = Counter(record.video for record in records)
    videos = sorted({record.video for record in records})
    sizes = {video: size_bytes(inspection.folder / video) for video in videos}
    counts = Counter(sizes.values())
    alike = [video for video in videos if counts[sizes[video]] > 1]
    contents = content_hashes(inspection.folder, alike)
    hashes = {video: video for video, count in n_rows.items() if count > 1}
    hashes |= dict(zip(alike, contents, strict=True))
    return [replace(record, sha256=hashes.get(record.video, "")) for record in records]

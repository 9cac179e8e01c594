"""Every data set that can be imported passes the catalog stage with its task."""

import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.dataset.catalog import build_catalog
from pipeline.importing.datasets import DATA_SETS
from pipeline.importing.importer import import_data_set
from pipeline.params import load_params
from pipeline.tasks.targets import targets_of
from pipeline.video.writing import encode_mp4
from tests.conftest import numbered_frames

MP4 = encode_mp4(numbered_frames(3), fps=10)
CLASSES = ("clap", "wave")
# Videos of each class: of groups 1 to 6, groups 1 to 4 are for training.
NUMBERS = range(1, 7)


def lines(rows):
    return "".join(f"{row}\n" for row in rows)


def ucf101():
    names = {n: [f"{c}/v_{c}_g{n:02}_c01.avi" for c in CLASSES] for n in NUMBERS}
    files = {"classInd.txt": "1 clap\n2 wave\n"}
    for split, tested in ((1, (5, 6)), (2, (1, 2)), (3, (3, 4))):
        train = [f"{name} {1 + CLASSES.index(name.split('/')[0])}"
                 for n in NUMBERS if n not in tested for name in names[n]]  # fmt: skip
        files[f"trainlist0{split}.txt"] = lines(train)
        files[f"testlist0{split}.txt"] = lines(name for n in tested for name in names[n])
    return files | dict.fromkeys(name for own in names.values() for name in own)


def hmdb51():
    files: dict[str, str | None] = {}
    for label in CLASSES:
        clips = {n: f"film{n}_{label}_u_nm_np1_ba_goo_0.avi" for n in NUMBERS}
        files |= dict.fromkeys(f"hmdb51_org/{label}/{clip}" for clip in clips.values())
        for split, tested in ((1, (5,)), (2, (1, 2)), (3, (3, 4))):
            files[f"{label}_test_split{split}.txt"] = lines(
                f"{clip} {2 if n in tested else 0 if split == 1 and n == 6 else 1}"
                for n, clip in clips.items()
            )
    return files


def kinetics():
    splits = {n: "train" if n < 5 else "validate" for n in NUMBERS}
    rows = [f"{c},{c}{n},{n},{n + 10},{splits[n]}" for c in CLASSES for n in NUMBERS]
    header = "label,youtube_id,time_start,time_end,split"
    clips = [f"{c}/{c}{n}_{n:06}_{n + 10:06}.mp4" for c in CLASSES for n in NUMBERS]
    return {"all.csv": lines([header, *rows]), **dict.fromkeys(clips)}


def ssv2():
    entries = [{"id": f"{n}{k}", "template": f"Doing {c} with [something]", "label": f"{c} a cup"}
               for n in NUMBERS for k, c in enumerate(CLASSES)]  # fmt: skip
    return {
        "labels.json": json.dumps(
            {f"Doing {c} with something": str(k) for k, c in enumerate(CLASSES)}
        ),
        "train.json": json.dumps(entries[:8]),
        "validation.json": json.dumps(entries[8:]),
        **dict.fromkeys(f"{entry['id']}.webm" for entry in entries),
    }


def mmaction2(label=str):
    paths = {n: [f"{c}/{n}.mp4" for c in CLASSES] for n in NUMBERS}
    rows = {n: [f"{path} {label(k)}" for k, path in enumerate(own)] for n, own in paths.items()}
    return {
        "train_list.txt": lines(row for n in NUMBERS if n < 5 for row in rows[n]),
        "val_list.txt": lines(row for n in NUMBERS if n > 4 for row in rows[n]),
        "classes.txt": lines(CLASSES),
        **dict.fromkeys(path for own in paths.values() for path in own),
    }


def videofolder(**columns):
    files: dict[str, str | None] = {}
    for split, own in (("train", (1, 2)), ("validation", (3, 4)), ("test", (5, 6))):
        rows = []
        for n in own:
            files[f"{split}/{n}.mp4"] = None
            rows.append({"file_name": f"{n}.mp4", **{k: v[n % 2] for k, v in columns.items()}})
        files[f"{split}/metadata.jsonl"] = lines(map(json.dumps, rows))
    return files


def msrvtt():
    splits = ("train", "train", "train", "validate", "test", "test")
    content = {
        "videos": [{"video_id": f"video{n}", "split": split, "url": f"https://youtu.be/x{n}"}
                   for n, split in enumerate(splits)],
        "sentences": [{"video_id": f"video{n}", "caption": f"{who} runs", "sen_id": 2 * n + k}
                      for n in range(6) for k, who in enumerate(("a man", "someone"))],
    }  # fmt: skip
    return {
        "MSRVTT_data.json": json.dumps(content),
        **dict.fromkeys(f"video{n}.mp4" for n in range(6)),
    }


def msvd():
    rows = [f"id{n}_{n}_{n + 5} {who} runs" for n in NUMBERS for who in ("a man", "someone")]
    return {"AllVideoDescriptions.txt": lines(rows),
            **dict.fromkeys(f"YouTubeClips/id{n}_{n}_{n + 5}.avi" for n in NUMBERS)}  # fmt: skip


CASES = [
    ("ucf101", "classification", ucf101()),
    ("hmdb51", "classification", hmdb51()),
    ("kinetics", "classification", kinetics()),
    ("ssv2", "classification", ssv2()),
    ("ssv2", "caption", ssv2()),
    ("mmaction2", "classification", mmaction2()),
    ("mmaction2", "multilabel", mmaction2(label=lambda k: "0 1" if k else "0")),
    ("videofolder", "classification", videofolder(label=("a", "b"))),
    ("videofolder", "multilabel", videofolder(labels=(["a"], ["a", "b"]))),
    ("videofolder", "regression", videofolder(value=(1.5, 2))),
    ("videofolder", "caption", videofolder(text=("a cat", ["a dog", "one dog"]))),
    ("msrvtt", "caption", msrvtt()),
    ("msvd", "caption", msvd()),
]


def test_every_data_set_and_task_has_a_case():
    pairs = {(name, task) for name, data_set in DATA_SETS.items() for task in data_set.tasks}
    assert {(name, task) for name, task, _ in CASES} == pairs


@pytest.mark.parametrize(
    ("name", "task", "files"), CASES, ids=lambda one: one if isinstance(one, str) else ""
)
def test_the_catalog_stage_accepts_an_imported_data_set(tmp_path, monkeypatch, name, task, files):
    params_text = Path("params.yaml").read_text()
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(params_text)
    for path, text in files.items():
        place = Path("source") / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(MP4 + path.encode() if text is None else text.encode())
    import_data_set(name, Path("source"), params=Path("params.yaml"), task=task)
    params = load_params(Path("params.yaml"))
    assert params.task.type == task
    records = build_catalog(params.data, params.catalog, targets_of(task).configured(params.task))
    n_videos = sum(text is None for text in files.values())
    assert len(records) == n_videos
    splits = Counter(record.split for record in records)
    assert set(splits) - {None} == {"train", "val", "test"}
    assert splits[None] == (2 if name == "hmdb51" else 0)
    assert {len(record.folds) for record in records} == {3 if name in ("ucf101", "hmdb51") else 0}
    assert all(record.sha256 and record.group for record in records)

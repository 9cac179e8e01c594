"""The data sets that ``vidpipe import`` knows: how they are read, where they come from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.importing.captions import read_msrvtt, read_msvd
from pipeline.importing.hmdb51 import read_hmdb51
from pipeline.importing.kinetics import read_kinetics
from pipeline.importing.mmaction2 import read_mmaction2
from pipeline.importing.source import Source
from pipeline.importing.ssv2 import read_ssv2
from pipeline.importing.table import Imported
from pipeline.importing.ucf101 import read_ucf101
from pipeline.importing.videofolder import read_videofolder


@dataclass(frozen=True)
class DataSet:
    """A data set, or a format of data sets.

    Attributes:
        title: for messages.
        read: returns the rows of the labels table; its second argument is one of ``tasks``, or
            None for the usual one.
        tasks: values of ``task.type`` that it can be used for; the usual one first.
        needs: what SRC must hold.
        page: the official page.
        terms: who may use it for what, according to that page.
        marks: patterns of the names of annotation files by which a folder is recognised.
    """

    title: str
    read: Callable[[Source, str | None], Imported]
    tasks: tuple[str, ...]
    needs: str
    page: str
    terms: str
    marks: tuple[str, ...] = ()


DATA_SETS: dict[str, DataSet] = {
    "ucf101": DataSet(
        "UCF101",
        read_ucf101,
        ("classification",),
        "UCF101.rar and UCF101TrainTestSplits-RecognitionTask.zip",
        "https://www.crcv.ucf.edu/data/UCF101.php",
        "those on the page; the videos belong to the people who uploaded them to YouTube",
        ("classInd.txt", "trainlist0?.txt"),
    ),
    "hmdb51": DataSet(
        "HMDB51",
        read_hmdb51,
        ("classification",),
        "hmdb51_org.rar and test_train_splits.rar",
        "https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/",
        "Creative Commons Attribution 4.0",
        ("*_test_split?.txt",),
    ),
    "kinetics": DataSet(
        "Kinetics",
        read_kinetics,
        ("classification",),
        "the clips (.tar.gz) and the csv files of their annotations",
        "https://github.com/cvdfoundation/kinetics-dataset",
        "the annotations are under Creative Commons Attribution 4.0; the videos belong to the "
        "people who uploaded them to YouTube",
    ),
    "ssv2": DataSet(
        "Something-Something v2",
        read_ssv2,
        ("classification", "caption"),
        "the videos (.webm, or the archive in parts) and labels.json, train.json, validation.json, "
        "test.json",
        "https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
        "a research licence, which is accepted on the page with an account",
    ),
    "mmaction2": DataSet(
        "mmaction2 lists",
        read_mmaction2,
        ("classification", "multilabel"),
        "lists such as train_list.txt and val_list.txt, their videos or folders of frames, and a "
        "file of class names such as classes.txt",
        "https://mmaction2.readthedocs.io/en/latest/user_guides/prepare_dataset.html",
        "those of the data set",
    ),
    "videofolder": DataSet(
        "Hugging Face videofolder",
        read_videofolder,
        ("classification", "multilabel", "regression", "caption"),
        "videos and metadata.csv, metadata.jsonl or metadata.parquet, or folders of classes",
        "https://huggingface.co/docs/datasets/video_dataset",
        "those of the data set, on its page",
        ("metadata.csv", "metadata.jsonl", "metadata.parquet"),
    ),
    "msrvtt": DataSet(
        "MSR-VTT",
        read_msrvtt,
        ("caption",),
        "the videos and train_val_videodatainfo.json, test_videodatainfo.json",
        "https://www.microsoft.com/en-us/research/publication/"
        "msr-vtt-a-large-video-description-dataset-for-bridging-video-and-language/",
        "those on the page",
        ("*videodatainfo.json",),
    ),
    "msvd": DataSet(
        "MSVD",
        read_msvd,
        ("caption",),
        "YouTubeClips.tar and AllVideoDescriptions.txt",
        "https://www.cs.utexas.edu/~ml/clamp/videoDescription/",
        "those on the page; the videos belong to the people who uploaded them to YouTube",
        ("AllVideoDescriptions.txt",),
    ),
}


def recognise(folder: Path) -> tuple[str, str] | None:
    """Return the name of the data set whose annotation files a folder has, and one of them."""
    for name, data_set in DATA_SETS.items():
        for mark in data_set.marks:
            for depth in ("", "*/"):
                for path in sorted(folder.glob(f"{depth}{mark}")):
                    return name, path.name
    return None

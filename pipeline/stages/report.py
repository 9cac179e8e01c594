"""report: what the videos are, as a picture and as a table by class and split."""

from pipeline.base.command import run_command
from pipeline.base.paths import CATALOG, DATA_SUMMARY, FRAMES_INDEX, VIDEOS_PICTURE
from pipeline.catalog.records import SPLITS
from pipeline.evaluation.data_plots import videos_picture
from pipeline.evaluation.data_summary import summarise, write_summary_csv
from pipeline.evaluation.plots import save_png
from pipeline.params import load_params
from pipeline.stages.described import read_described


def main() -> None:
    bins = load_params().report.bins
    videos = list(read_described(CATALOG, FRAMES_INDEX).values())
    summary = summarise(videos, splits=SPLITS)
    write_summary_csv(DATA_SUMMARY, summary)
    save_png(videos_picture(videos, summary, bins=bins), VIDEOS_PICTURE)


if __name__ == "__main__":
    run_command(main)

"""report: draw the data set, and count it by class and split."""

from pipeline.common.charts import save_png
from pipeline.common.command import run_command
from pipeline.common.paths import CATALOG, DATA_PICTURE, DATA_SUMMARY, DECODE_INDEX
from pipeline.common.records import read_decoded
from pipeline.data_report.picture import data_picture
from pipeline.data_report.summary import summarise, write_summary_csv
from pipeline.params import load_params
from pipeline.tasks.targets import targets_of


def main() -> None:
    records = read_decoded(CATALOG, DECODE_INDEX)
    targets = targets_of(load_params().task.type)
    summary = summarise(records, targets.strata([record.target for record in records]))
    write_summary_csv(DATA_SUMMARY, summary)
    save_png(data_picture(records, summary), DATA_PICTURE)


if __name__ == "__main__":
    run_command(main)

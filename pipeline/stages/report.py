"""report: count and draw the data set, propose groups, and write one HTML page."""

import logging

from pipeline.common import paths
from pipeline.common.charts import png_bytes
from pipeline.common.command import run_command
from pipeline.common.files import replacing_file
from pipeline.common.records import read_decoded
from pipeline.common.tables import size_text
from pipeline.data_report.groups import propose_groups
from pipeline.data_report.page import DataSet, write_page
from pipeline.data_report.picture import data_picture
from pipeline.data_report.summary import summarise, write_summary_csv
from pipeline.evaluation.near_duplicates import hash_stored_videos
from pipeline.params import load_params
from pipeline.tasks.targets import targets_of
from pipeline.video.store import read_frame_settings

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    decoded = read_decoded(paths.CATALOG, paths.DECODE_INDEX)
    records = [record for record in decoded if record.split]
    targets = targets_of(params.task.type)
    strata = targets.strata([record.target for record in records])
    summary = summarise(records, strata)
    data = DataSet(
        source=params.data.videos,
        task=params.task.type,
        records=records,
        targets=targets,
        strata=strata,
        summary=summary,
        proposals=propose_groups(records, hash_stored_videos(paths.FRAMES, records)),
        frames=paths.FRAMES,
        decode=read_frame_settings(paths.FRAMES),
    )
    picture = data_picture(records, summary, noun=targets.stratum_name)
    png = png_bytes(picture)
    write_summary_csv(paths.DATA_SUMMARY, summary)
    with replacing_file(paths.DATA_PICTURE) as temporary:
        temporary.write_bytes(png)
    write_page(paths.DATA_REPORT, data, picture, png)
    logger.info("Wrote %s (%s)", paths.DATA_REPORT, size_text(paths.DATA_REPORT.stat().st_size))


if __name__ == "__main__":
    run_command(main)

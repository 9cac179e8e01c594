"""Take the pictures of docs/review.md and data/README.md: ``python -m docs.screenshots``.

Run it from the root after ``vidpipe repro`` and ``vidpipe compare``. It opens the pages and the
MLflow UI in a headless Chromium, and writes docs/images/.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.common.command import run_command
from pipeline.common.errors import PipelineError
from pipeline.common.paths import (
    COMPARISON,
    DATA_REPORT,
    METRICS,
    MODEL,
    MODEL_METADATA,
    REVIEW_REPORT,
)
from pipeline.model.saving import model_digest
from pipeline.params import load_params
from pipeline.tracking.evaluations import EVALUATION
from pipeline.tracking.runs import find_run
from pipeline.tracking.store import connect
from tests.browser import find_chromium
from tests.mlflow_ui import mlflow_ui

logger = logging.getLogger(__name__)

IMAGES = Path("docs/images")

_TIMEOUT_MILLISECONDS = 120_000  # of each wait
_WINDOW = (1280, 800)  # CSS pixels
_IMAGE_WIDTH = 960  # pixels
_COLOURS = 128


def main() -> None:
    if not METRICS.exists():
        raise PipelineError(f"{METRICS}: no such file. Run: vidpipe repro")
    chromium = find_chromium()
    if chromium is None:
        raise PipelineError("PATH: expected a Chromium. On Debian: apt-get install chromium")
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright, mlflow_ui(Path.cwd()) as url:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, page in _pages(browser, url):
            path = IMAGES / f"{name}.png"
            page.screenshot(path=path)
            _shrink(path)
            logger.info("Wrote %s", path)
        browser.close()


def _pages(browser: Browser, url: str) -> Iterator[tuple[str, Page]]:
    """Yield the name of each image and the page to capture."""
    page = browser.new_page(viewport={"width": _WINDOW[0], "height": _WINDOW[1]})
    page.set_default_timeout(_TIMEOUT_MILLISECONDS)
    pages = {"data": DATA_REPORT, "report": REVIEW_REPORT, "compare": COMPARISON}
    for name, path in pages.items():
        if path.exists():
            page.goto(path.resolve().as_uri())
            yield name, page
        else:
            logger.warning("%s: no such file, so no image is taken of it.", path)
    run = connect().get_run(_run_id())
    runs = f"{url}/#/experiments/{run.info.experiment_id}/runs"
    page.goto(runs)
    page.get_by_role("link", name=run.info.run_name).first.wait_for()
    yield "runs", page
    page.goto(f"{runs}/{run.info.run_id}")
    _close_assistant(page)
    page.get_by_text("test videos.").first.scroll_into_view_if_needed()
    yield "run", page
    page.goto(f"{runs}/{run.info.run_id}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("^(val_)?(loss|accuracy)$")
    page.locator(".js-plotly-plot .scatterlayer path.js-line").first.wait_for()
    yield "metrics", page
    folder = run.data.tags[EVALUATION]
    page.goto(f"{runs}/{run.info.run_id}/artifacts/{folder}/plots/confusion.png")
    page.wait_for_function("[...document.images].some(image => image.naturalWidth > 400)")
    yield "artifacts", page
    page.goto(f"{url}/#/models/{load_params().register_.name}")
    page.get_by_role("row").filter(has_text="challenger").first.wait_for()
    yield "versions", page


def _run_id() -> str:
    run_id = find_run(model_digest(MODEL, MODEL_METADATA))
    if run_id is None:
        raise PipelineError("MLflow has no run of models/model.keras. Run: vidpipe repro")
    return run_id


def _close_assistant(page: Page) -> None:
    """Close the panel of MLflow's assistant."""
    page.get_by_text("About this run").wait_for()
    button = page.get_by_role("button", name="Close", exact=True)
    if button.count():
        button.first.click()


def _shrink(path: Path) -> None:
    """Reduce size and number of colours; text stays readable."""
    picture = Image.open(path).convert("RGB")
    height = round(picture.height * _IMAGE_WIDTH / picture.width)
    small = picture.resize((_IMAGE_WIDTH, height), Image.Resampling.LANCZOS)
    small.quantize(_COLOURS).save(path, optimize=True)


if __name__ == "__main__":
    run_command(main)

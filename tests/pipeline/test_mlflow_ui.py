"""What a reviewer sees of a run and of a version in MLflow's own pages, in a headless Chromium."""

import re
from dataclasses import dataclass

import cv2
import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from tests.mlflow_ui import mlflow_ui

pytestmark = pytest.mark.long

_WITHIN_MILLISECONDS = 120_000  # for a page to show something; a second or two on an idle machine


@dataclass(frozen=True)
class Store:
    """The UI over a store with one run and one version of its model."""

    url: str
    experiment: str
    run_id: str
    run_name: str
    evaluation: str

    @property
    def runs(self) -> str:
        return f"{self.url}/#/experiments/{self.experiment}/runs"

    @property
    def run(self) -> str:
        return f"{self.runs}/{self.run_id}"


@pytest.fixture(scope="module")
def store(built, browser):  # noqa: ARG001 - without a browser, nothing is started
    client = MlflowClient(tracking_uri=f"sqlite:///{built.root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("video-classifier").experiment_id
    (run,) = client.search_runs([experiment])
    with mlflow_ui(built.root) as url:
        evaluation = run.data.tags["evaluation"]
        yield Store(url, experiment, run.info.run_id, run.info.run_name, evaluation)


@pytest.fixture
def page(browser):
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(_WITHIN_MILLISECONDS)
    expect.set_options(timeout=_WITHIN_MILLISECONDS)
    yield context.new_page()
    context.close()


def test_the_list_of_runs_has_the_run_by_its_name(store, page):
    page.goto(store.runs)
    page.get_by_role("link", name=store.run_name).first.click()
    expect(page).to_have_url(re.compile(store.run_id))
    expect(page.get_by_role("heading", name=store.run_name)).to_be_visible()


def test_the_note_and_the_data_set_are_on_the_first_page_of_the_run(store, page):
    page.goto(store.run)
    expect(page.get_by_text(re.compile(r"on \d+ test videos"))).to_be_visible()
    expect(page.get_by_role("cell", name="balanced accuracy", exact=True)).to_be_visible()
    expect(page.get_by_role("heading", name="Provenance")).to_be_visible()
    expect(page.get_by_text(re.compile(r"^videos \([0-9a-f]{32}"))).to_be_visible()


def test_the_chart_of_a_metric_is_drawn_over_its_epochs(store, page):
    page.goto(f"{store.run}/model-metrics")
    page.get_by_placeholder("Search metric charts").fill("val_loss")
    line = page.locator(".js-plotly-plot .scatterlayer path.js-line")
    expect(line.first).to_have_attribute(
        "d", re.compile("^M.+L")
    )  # two epochs: from a point to another


def test_a_picture_is_shown(store, page, built):
    page.goto(f"{store.run}/artifacts/{store.evaluation}/plots/confusion.png")
    height, width = cv2.imread(str(built.root / "eval/plots/confusion.png")).shape[:2]
    page.wait_for_function(
        "([width, height]) => [...document.images].some("
        "image => image.naturalWidth === width && image.naturalHeight === height)",
        arg=[width, height],
    )


def test_the_version_is_listed_with_its_alias(store, page):
    page.goto(f"{store.url}/#/models/video-classifier")
    row = page.get_by_role("row").filter(has_text="Version 1")
    expect(row).to_contain_text("challenger")

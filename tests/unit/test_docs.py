"""The docs name files and functions that exist."""

import re
from pathlib import Path

import pytest

PAGES = [Path("README.md"), *sorted(Path("docs").glob("*.md")), Path("data/README.md")]
FOLDERS = "pipeline|tests|docs|benchmarks|.github"


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", text))
    linked = {
        str((page.parent / target).resolve())
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    }
    missing = [path for path in sorted(named | linked) if not Path(path).exists()]
    assert not missing


def test_the_table_of_additions_names_functions_of_its_files():
    page = Path("docs/architecture.md").read_text()
    _, table = page.split("## To add something")
    cells = re.findall(r"`(pipeline/[\w/]+\.py)`: ((?:`\w+`(?:, )?)+)", table)
    assert len(cells) >= 10
    for path, names in cells:
        source = Path(path).read_text()
        for name in re.findall(r"\w+", names):
            assert re.search(rf"\b(def|class) {name}\b|^ *{name}\b", source, re.MULTILINE), (
                path,
                name,
            )


def test_the_modules_that_a_page_runs_exist():
    for page in PAGES:
        for module in re.findall(
            r"python -m ((?:benchmarks|docs|pipeline|tests)[\w.]*)", page.read_text()
        ):
            assert Path(module.replace(".", "/") + ".py").exists(), (page, module)

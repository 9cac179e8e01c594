import pytest
from jinja2 import UndefinedError

from pipeline.common.pages import data_uri, number, percent, render_page, words


@pytest.fixture
def template(tmp_path):
    path = tmp_path / "one.html"
    path.write_text(
        '{% extends "base.html" %}{% block title %}{{ name }}{% endblock %}'
        "{% block content %}<h1>{{ name }}</h1>{{ share | percent }}{% endblock %}"
    )
    return path


def test_values_are_escaped(template):
    page = render_page(template, name="<b>&", share=0.25)
    assert page.startswith("<!doctype html>")
    assert "<h1>&lt;b&gt;&amp;</h1>25 %" in page
    assert "default-src 'none'" in page, "the browser loads nothing"


def test_values_show_control_characters_as_escapes(template):
    page = render_page(template, name="a\nb\x85\x1b[31m\u202e<i>", share=0.25)
    assert r"<h1>a\nb\x85\x1b[31m\u202e&lt;i&gt;</h1>" in page


def test_a_missing_value_is_an_error(template):
    with pytest.raises(UndefinedError, match="'share' is undefined"):
        render_page(template, name="x")


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (0.0001, "<0.1 %"),
        (0.1254, "12.5 %"),
        (0.5, "50 %"),
        (0.9996, ">99.9 %"),
        (1, "100 %"),
    ],
)
def test_a_rare_case_is_neither_0_nor_100_percent(share, shown):
    assert percent(share) == shown


def test_none_is_formatted_as_a_dash():
    assert [number(None), number(0.12345), number(3)] == ["-", "0.123", "3"]


def test_bytes_become_a_data_uri():
    assert data_uri(b"abc", "image/webp") == "data:image/webp;base64,YWJj"


def test_names_are_shown_as_words():
    assert words("macro_f1") == "macro F1"

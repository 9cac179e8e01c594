import csv
import io

import pytest

from pipeline.common.tables import (
    align_columns,
    count_of,
    markdown_code,
    markdown_escape,
    markdown_table,
    printable,
    read_table_csv,
    shorten_list,
    size_text,
    table_csv,
    write_table_csv,
)


def test_columns_are_aligned_left_or_right_without_trailing_spaces():
    rows = [("WARN", "0.25", "moved"), ("ok", "1", "")]
    assert align_columns(rows, "<><") == ["  WARN  0.25  moved", "  ok       1"]


def test_a_long_list_is_shortened():
    assert shorten_list(["a", "b", "c"], shown=3) == "a, b, c"
    assert shorten_list(["a", "b", "c"], shown=2, separator="; ") == "a; b and 1 more"
    assert shorten_list([]) == ""


def test_a_count_has_its_noun():
    assert count_of(1, "video") == "1 video"
    assert count_of(1200, "class", "classes") == "1,200 classes"
    assert count_of(0, "video") == "0 videos"


def test_names_do_not_become_markdown():
    assert markdown_escape("a*b_c|d\n<e>") == r"a\*b\_c\|d \<e\>"
    assert markdown_code("a`b|c") == "`a'b¦c`"
    assert markdown_code("") == ""


@pytest.mark.parametrize("write", [markdown_escape, markdown_code])
def test_a_name_is_one_line_of_markdown_without_control_characters(write):
    shown = write("a\nb\x85c\u2028d\x1b[31m\u202e\udcff")
    assert shown.isprintable()
    assert "a b c d" in shown


def test_markdown_does_not_decode_the_entities_of_a_name():
    assert markdown_escape("&lt;b&gt;") == r"\&lt;b\&gt;"


def test_a_markdown_table():
    assert markdown_table(["x", "y"], [["1", "2"]]) == ["| x | y |", "| --- | --- |", "| 1 | 2 |"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc\r.mp4", r"a\nb\tc\r.mp4"),
        ("\x85\u2028\x1b[31m", r"\x85\u2028\x1b[31m"),
        ("\udcff.mp4", r"\xff.mp4"),
        ("\u202e4pm.a", r"\u202e4pm.a"),  # shows the end of the name first
        ("\u2066a\u2069", r"\u2066a\u2069"),
        ("\u00e9t\u00e9 \u05d0 \u65e5.mp4", "\u00e9t\u00e9 \u05d0 \u65e5.mp4"),
    ],
)
def test_a_name_is_shown_on_one_line_in_its_own_order(text, shown):
    assert printable(text) == shown


def test_a_cell_with_a_line_break_stays_in_its_row():
    assert align_columns([("a\nb", "x"), ("c", "y")], "<<") == [r"  a\nb  x", "  c     y"]


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0.mp4",
        "+1",
        "-2+3",
        "-x",
        "@sum(a1)",
        "\t=1",
        "\r=1",
        " =1",
        "\uff1d1",  # a full-width equals sign, which some spreadsheets take for one
        "'=1",  # also what an escaped cell looks like
        "''+1",
    ],
)
def test_a_spreadsheet_does_not_take_text_for_a_formula(tmp_path, text):
    columns, rows = ["video", text], [{"video": text, text: "1"}]
    for cell in (*csv.reader(io.StringIO(table_csv(columns, rows), newline="")),):
        assert all(not part.strip().startswith(tuple("=+-@\uff1d")) for part in cell)
    write_table_csv(tmp_path / "t.csv", columns, rows)
    assert read_table_csv(tmp_path / "t.csv") == rows


def test_numbers_and_plain_text_are_not_escaped():
    row = {"a": "-0.5", "b": -3, "c": "1e-09", "d": "-1.5e-7", "e": "'tis", "f": None, "g": "a=b"}
    assert table_csv(list(row), [row]) == "a,b,c,d,e,f,g\n-0.5,-3,1e-09,-1.5e-7,'tis,,a=b\n"


def test_sizes_have_decimal_units():
    sizes = [0, 1, 999, 1000, 1_500_000, 999_900_000, 2_345_000_000, 5 * 10**15]
    assert [size_text(size) for size in sizes] == [
        "0 bytes", "1 byte", "999 bytes", "1 kB", "1.5 MB", "1 GB", "2.35 GB", "5 PB",
    ]  # fmt: skip

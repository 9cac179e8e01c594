from pipeline.common.tables import (
    align_columns,
    count_of,
    markdown_code,
    markdown_escape,
    markdown_table,
    shorten_list,
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


def test_a_markdown_table():
    assert markdown_table(["x", "y"], [["1", "2"]]) == ["| x | y |", "| --- | --- |", "| 1 | 2 |"]

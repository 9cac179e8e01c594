"""Errors that the user can fix, and the text of those of other packages."""

from pipeline.common.errors import first_line


def test_the_first_line_of_an_error_without_a_message_is_its_type():
    assert first_line(ValueError("\nbad value\nin a file")) == "bad value"
    assert first_line(KeyboardInterrupt()) == "KeyboardInterrupt"

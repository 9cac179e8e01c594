"""The section ``task`` of params.yaml."""

import unicodedata

from pydantic import PositiveInt, field_validator

from pipeline.common.settings import OpenFraction, Section, Text
from pipeline.tasks.targets import target_types

_FORBIDDEN = ("Cc", "Zl", "Zp")  # Unicode categories of control characters and line breaks


class TaskSection(Section):
    """The task of the model.

    Attributes:
        type: name of a task.
        target_accuracy: required accuracy of confident answers. The confidence threshold that
            reaches it on the validation videos is fitted after training; answers below the
            threshold are marked.
        unit: of the numbers of ``type: regression``, such as ``km/h``; for display.
        background: of ``type: frames``, the label of the frames outside all intervals; empty: they
            are unlabelled.
        min_word_count: occurrences of a word in the training captions from which it is in the
            vocabulary.
        max_words: of a caption; the model learns the first words of a longer one.
        beam_width: captions that beam search keeps at each word; 1 is greedy search.
    """

    type: Text = "classification"
    target_accuracy: OpenFraction = 0.95
    unit: str = ""
    background: str = ""
    min_word_count: PositiveInt = 1
    max_words: PositiveInt = 20
    beam_width: PositiveInt = 3

    @field_validator("type")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in target_types():
            raise ValueError(f"Input should be one of {', '.join(target_types())}")
        return value

    @field_validator("background")
    @classmethod
    def _is_label(cls, value: str) -> str:
        cleaned = unicodedata.normalize("NFC", value.strip())  # as labels in the table
        if "|" in cleaned or any(unicodedata.category(one) in _FORBIDDEN for one in cleaned):
            raise ValueError("Input should be a name without |, line breaks and control characters")
        return cleaned

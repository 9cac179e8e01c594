"""The vocabulary of captions: words as token ids."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from pipeline.tasks.targets import caption_words

# Token ids below those of the words.
PADDING, START, END, UNKNOWN = range(4)
FIRST_WORD = 4


class Vocabulary:
    """The words of a task, in the order of their ids.

    Args:
        words: without repetition; the id of the first is ``FIRST_WORD``.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = tuple(words)

    @classmethod
    def learn(cls, captions: Iterable[str], *, min_count: int) -> "Vocabulary":
        """Return the words that occur ``min_count`` times or more, the most frequent first."""
        counts = Counter(word for caption in captions for word in caption_words(caption))
        frequent = [word for word, count in counts.items() if count >= min_count]
        return cls(sorted(frequent, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        """Return the number of token ids."""
        return FIRST_WORD + len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, start=FIRST_WORD)}

    def ids(self, words: Iterable[str]) -> list[int]:
        """Return the id of each word; ``UNKNOWN`` for words that are not in the vocabulary."""
        return [self._ids.get(word, UNKNOWN) for word in words]

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Return the words before the first ``END`` or ``PADDING``."""
        words = []
        for number in ids:
            if number < FIRST_WORD:
                break
            words.append(self.words[number - FIRST_WORD])
        return words

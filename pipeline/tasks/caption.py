"""Captions: a description of the video in words.

Outputs are float64 [N, 2 + T, max_words + 2]: columns of the token id, the log-probability of the
caption up to here, and the attention to each of T frames. T is 0 where outputs are read from text.
``END`` is the last token; after it, ids and attention are 0. The last column has only the
log-probability of the caption.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.common.bootstrap import Resampling
from pipeline.common.errors import PipelineError
from pipeline.common.tables import count_of
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import caption_words, split_references, targets_of
from pipeline.tasks.task import (
    AnswerType,
    BaselineClips,
    ClipFeatures,
    Guess,
    Outputs,
    StreamOutput,
    Table,
    Task,
)
from pipeline.tasks.vocabulary import END, FIRST_WORD, PADDING, START, UNKNOWN, Vocabulary

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from pipeline.common.charts import Chart

logger = logging.getLogger(__name__)

_TOKEN, _TOTAL, _ATTENTION = 0, 1, 2  # rows of an output
_COLUMNS = ("captions", "predicted", "rouge_l", "log_probabilities")  # of predictions.csv


@dataclass(frozen=True)
class Caption(Task):
    """A caption a video.

    Attributes:
        vocabulary: words of the training captions, in the order of their token ids.
        max_words: of a caption.
        beam_width: captions that beam search keeps at each word.
    """

    type: ClassVar[str] = "caption"
    reads_steps: ClassVar[bool] = True
    training_metric: ClassVar[str] = "word_accuracy"
    headline_metrics: ClassVar[tuple[str, ...]] = ("cider_d", "exact_match")
    compared_metrics: ClassVar[tuple[str, ...]] = (
        "cider_d",
        "bleu_4",
        "chrf",
        "rouge_l",
        "exact_match",
    )
    video_score: ClassVar[str] = "rouge_l"
    baselines: ClassVar[Mapping[str, str]] = {
        "most_frequent": "the most frequent training caption, for every video",
        "nearest": "the caption of the training clip with the nearest mean of frame features",
    }
    headline_chart: ClassVar[str] = "caption_scores"
    metric_descriptions: ClassVar[Mapping[str, str]] = {
        "cider_d": "CIDEr-D, 0 to 10: n-grams of 1 to 4 words shared with the references, rare "
        "ones with more weight",
        "bleu_4": "precision of n-grams of 1 to 4 words, with a penalty of short captions",
        "chrf": "mean F of character n-grams",
        "rouge_l": "mean F of the longest common subsequence of words",
        "exact_match": "proportion of captions that are equal to a reference, word by word",
        "rouge_l_frames_shuffled": "ROUGE-L with the frames of each clip shuffled",
    }
    answer_types: ClassVar[Mapping[str, AnswerType]] = {
        "caption": "string",
        "log_probability": "double",
        "words": {"word": "string", "log_probability": "double", "attention": "doubles"},
    }
    segment_fields: ClassVar[tuple[str, ...]] = ("caption", "log_probability")

    words: tuple[str, ...]
    max_words: int = 20
    beam_width: int = 3

    # Learnt from the training split, and saved as JSON.

    @classmethod
    def learn(cls, targets: Sequence[str], section: TaskSection) -> Self:
        """Learn the vocabulary: the words with ``task.min_word_count`` occurrences or more.

        Raises:
            PipelineError: no word occurs that often.
        """
        captions = [caption for target in targets for caption in split_references(target)]
        vocabulary = Vocabulary.learn(captions, min_count=section.min_word_count)
        if not vocabulary.words:
            raise PipelineError(
                "params.yaml: task.min_word_count must leave a word in the vocabulary. Received: "
                f"{section.min_word_count}, and no word of "
                f"{count_of(len(captions), 'training caption')} occurs as often. Lower it."
            )
        n_cut = sum(len(caption_words(caption)) > section.max_words for caption in captions)
        if n_cut:
            logger.warning(
                "%d of %d training captions have more than %d words and are cut. To keep all "
                "words, raise task.max_words.",
                n_cut,
                len(captions),
                section.max_words,
            )
        return cls(vocabulary.words, section.max_words, section.beam_width)

    def to_json(self) -> dict[str, Any]:
        return {
            "words": list(self.words),
            "max_words": self.max_words,
            "beam_width": self.beam_width,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        return cls(tuple(value["words"]), value["max_words"], value["beam_width"])

    def summary(self) -> str:
        return f"captions of at most {self.max_words} words, {len(self.words):,} different ones"

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Return the token ids of the words."""
        return Vocabulary(self.words)

    # Training.

    def encode(self, targets: Sequence[str]) -> NDArray[np.int32]:
        """Return token ids int32 [N, R, max_words + 1] of up to R references a video.

        ``END`` follows the last word; ``PADDING`` fills the rest. A reference of more words is
        cut, and has no ``END``.
        """
        references = [split_references(target) for target in targets]
        encoded = np.full(
            (len(targets), max(map(len, references)), self.max_words + 1), PADDING, np.int32
        )
        for row, captions in enumerate(references):
            for number, caption in enumerate(captions):
                ids = self.vocabulary.ids(caption_words(caption))
                ids = [*ids, END] if len(ids) <= self.max_words else ids[: self.max_words]
                encoded[row, number, : len(ids)] = ids
        return encoded

    @property
    def mirror_names(self) -> tuple[str, ...]:
        return self.words

    def mirrored(self, target: "tf.Tensor", swaps: Sequence[Sequence[str]]) -> "tf.Tensor":
        """Exchange the words of each pair, such as left and right."""
        import tensorflow as tf

        words = [FIRST_WORD + index for index in self.mirrored_order(swaps)]
        return tf.gather(tf.constant([*range(FIRST_WORD), *words], tf.int32), target)

    def stream_head(self, features: ClipFeatures) -> "list[keras.KerasTensor]":
        """Return the features of the clip [B, G] and of its steps [B, T, S]."""
        return [features.clip, features.steps]

    def head(
        self, streams: Mapping[str, StreamOutput], mask: "keras.KerasTensor"
    ) -> "keras.KerasTensor":
        """Return captions float32 [B, 2 + T, max_words + 2]; see ``CaptionDecoder``."""
        from pipeline.tasks.caption_decoder import CaptionDecoder
        from pipeline.tasks.heads import FUSION_LAYER

        decoder = CaptionDecoder(
            list(streams),
            n_tokens=len(self.vocabulary),
            max_words=self.max_words,
            beam_width=self.beam_width,
            name=FUSION_LAYER,
        )
        clips, steps = (list(part) for part in zip(*streams.values(), strict=True))
        return decoder(clips, steps, mask=mask)

    def training_model(self, model: "keras.Model") -> "keras.Model":
        """Return the model with teacher forcing; see ``caption_decoder.training_model``."""
        from pipeline.tasks.caption_decoder import training_model

        return training_model(model)

    def training_example(
        self, inputs: "dict[str, tf.Tensor]", target: "tf.Tensor", seed: "tf.Tensor"
    ) -> "tuple[dict[str, tf.Tensor], tf.Tensor]":
        """Draw a reference, and add the words before each of its words as ``tokens``."""
        import tensorflow as tf

        is_filled = tf.cast(target[:, 0] != PADDING, tf.int32)
        number = tf.random.stateless_uniform(
            [],
            tf.random.experimental.stateless_fold_in(seed, 1),
            0,
            tf.reduce_sum(is_filled),
            tf.int32,
        )
        reference = target[number]
        tokens = tf.concat([[START], reference[:-1]], axis=0)
        # END as an input would be a further word; the loss ignores what follows it.
        return {**inputs, "tokens": tokens}, reference

    def loss(
        self, *, label_smoothing: float, balanced_on: NDArray[Any] | None = None
    ) -> "keras.losses.Loss":
        """Return the cross-entropy of the words, without padding."""
        from pipeline.tasks.caption_decoder import WordCrossentropy

        if balanced_on is not None:
            raise PipelineError(
                "params.yaml: train.class_weights must be none, because task.type is caption. "
                "Received: balanced. Set it to none."
            )
        return WordCrossentropy(label_smoothing)

    def metrics(self) -> "list[keras.metrics.Metric]":
        from pipeline.tasks.caption_decoder import WordAccuracy

        return [WordAccuracy(name=self.training_metric)]

    # After training.

    def fusion_loss(self, encoded: NDArray[Any], outputs: "tf.Tensor") -> float:
        """Return the mean cross-entropy of the words; captions get no temperature."""
        return float(self.loss(label_smoothing=0.0)(encoded, outputs))

    def combine_clips(self, outputs: Outputs, videos: NDArray[np.int64]) -> Outputs:
        """Return for each video the caption of a clip: the one of the highest confidence."""
        best_first = np.lexsort((-self.confidence(outputs), videos))
        is_first = np.append(True, np.diff(videos[best_first]) > 0)
        return np.asarray(outputs[best_first[is_first]], np.float64)

    # Scores.

    def find_invalid(self, outputs: Outputs) -> tuple[int, str] | None:
        if invalid := super().find_invalid(outputs):
            return invalid
        largest, n_ids = outputs[:, _TOKEN].max(axis=1), len(self.vocabulary)
        if (largest < n_ids).all():
            return None
        index = int(np.argmax(largest >= n_ids))
        return index, f"expected token ids up to {n_ids - 1}. Received: {largest[index]:g}"

    def terms(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return for each video 1, CIDEr-D, chrF, ROUGE-L, is_exact, and ``bleu_terms``."""
        from pipeline.tasks.caption_scores import bleu_terms, chrf, cider_d, rouge_l

        captions, references = self._captions(outputs), _normalised(targets)
        is_exact = [caption in row for caption, row in zip(captions, references, strict=True)]
        return np.stack(
            [
                np.ones(len(captions)),
                cider_d(captions, references),
                chrf(captions, references),
                rouge_l(captions, references),
                np.array(is_exact, np.float64),
                *bleu_terms(captions, references).T,
            ],
            axis=1,
        )

    def scores(self, sums: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        from pipeline.tasks.caption_scores import bleu_from_sums

        videos, cider, chrf, rouge, exact = np.moveaxis(sums[..., :5], -1, 0)
        return {
            "cider_d": cider / videos,
            "bleu_4": bleu_from_sums(sums[..., 5:]),
            "chrf": chrf / videos,
            "rouge_l": rouge / videos,
            "exact_match": exact / videos,
        }

    def video_scores(self, targets: Sequence[str], outputs: Outputs) -> NDArray[np.float64]:
        """Return ROUGE-L."""
        from pipeline.tasks.caption_scores import rouge_l

        return rouge_l(self._captions(outputs), _normalised(targets))

    def score_weights(self, targets: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        """Weight the videos equally; CIDEr-D is not a proportion."""
        equal = np.full(len(targets), 1 / len(targets))
        return dict.fromkeys(("bleu_4", "chrf", "rouge_l", "exact_match"), equal)

    def tables(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        resampling: Resampling,  # noqa: ARG002
    ) -> list[Table]:
        """Return the worst and the best captions beside their references."""
        from pipeline.tasks.caption_charts import caption_tables

        _, cider, _, rouge, _ = self.terms(targets, outputs).T[:5]
        references = [targets_of(self.type).text(target) for target in targets]
        return caption_tables(self._captions(outputs), references, rouge_l=rouge, cider_d=cider)

    def charts(
        self,
        targets: Sequence[str],
        outputs: Outputs,
        videos: Sequence[str],  # noqa: ARG002
    ) -> "list[Chart]":
        from pipeline.tasks.caption_charts import score_chart

        return [score_chart(self.video_scores(targets, outputs), self.confidence(outputs))]

    def baseline_outputs(self, train: BaselineClips, test: BaselineClips) -> dict[str, Outputs]:
        """Return training captions; the distance of mean frame features is Euclidean."""
        from sklearn.neighbors import NearestNeighbors

        references = _normalised(train.targets)
        counts = Counter(caption for row in _normalised(train.video_targets) for caption in row)
        (frequent, _), *_ = counts.most_common(1)
        means = [
            clips.features().sum(axis=1) / clips.mask.sum(axis=1, keepdims=True)
            for clips in (train, test)
        ]
        nearest = NearestNeighbors(n_neighbors=1).fit(means[0]).kneighbors(means[1])[1][:, 0]
        return {
            "most_frequent": self._certain([frequent] * len(test.targets)),
            "nearest": self._certain([references[index][0] for index in nearest.tolist()]),
        }

    # Two models, perhaps with different vocabularies.

    def gain_unit(self, metric: str) -> float:
        """Return 10 for CIDEr-D, its largest value, and 1 for the other metrics."""
        return 10.0 if metric == "cider_d" else 1.0

    def union(self, other: Task) -> Self:
        """Add the words of ``other`` that this task does not have."""
        assert isinstance(other, Caption)
        return replace(
            self,
            words=tuple(dict.fromkeys((*self.words, *other.words))),
            max_words=max(self.max_words, other.max_words),
        )

    def convert(self, outputs: Outputs, wanted: Task) -> Outputs:
        """Return the outputs with the token ids and positions of ``wanted``, without attention."""
        assert isinstance(wanted, Caption)
        ids = np.array([*range(FIRST_WORD), *wanted.vocabulary.ids(self.words)])
        converted = outputs[:, :_ATTENTION].copy()
        converted[:, _TOKEN] = ids[outputs[:, _TOKEN].astype(np.int64)]
        more = wanted.max_words + 2 - outputs.shape[2]
        padding = np.repeat(converted[..., -1:], more, axis=2)  # repeats the log-probability
        padding[:, _TOKEN] = PADDING
        return np.concatenate([converted, padding], axis=2)

    # Predictions as text, and the review.

    def prediction_cells(self, target: str, output: Outputs) -> dict[str, str]:
        """Return references, caption, ROUGE-L, and the log-probability of each word and the end."""
        n_tokens = int(_n_tokens(output[None])[0])
        return {
            "captions": target,
            "predicted": self._captions(output[None])[0],
            "rouge_l": f"{self.video_scores([target], output[None])[0]:.6f}",
            "log_probabilities": " ".join(f"{value:.9g}" for value in _steps(output)[:n_tokens]),
        }

    @classmethod
    def read_predictions(
        cls, rows: Sequence[Mapping[str, str]], *, where: str
    ) -> tuple[Self, list[str], Outputs]:
        missing = [column for column in _COLUMNS if column not in rows[0]]
        if missing:
            raise PipelineError(
                f"{where}: expected the columns {', '.join(_COLUMNS)}. Received: "
                f"{', '.join(rows[0])}"
            )
        captions, log_probabilities = [], []
        for line, row in enumerate(rows, start=2):
            column, expected = "captions", "a JSON list of references"
            try:
                split_references(row[column])
                column, expected = "log_probabilities", "numbers separated by spaces"
                values = [float(value) for value in row[column].split()]
            except ValueError:
                raise PipelineError(
                    f"{where}, line {line}: {column}: expected {expected}. Received: "
                    f"{row[column]!r}. Evaluate the model again."
                ) from None
            words = row["predicted"].split()
            if len(values) != len(words) + 1:
                raise PipelineError(
                    f"{where}, line {line}: {column}: expected "
                    f"{count_of(len(words) + 1, 'number')}, for {count_of(len(words), 'word')} "
                    f"and the end. Received: {len(values)}. Evaluate the model again."
                )
            captions.append(words)
            log_probabilities.append(values)
        task, outputs = cls._from_words(captions, log_probabilities)
        return task, [row["captions"] for row in rows], outputs

    def confidence(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the geometric mean of the probabilities of the words and the end."""
        return np.asarray(np.exp(outputs[:, _TOTAL, -1] / _n_tokens(outputs)), np.float64)

    def margins(self, outputs: Outputs) -> NDArray[np.float64]:
        """Return the confidence."""
        return self.confidence(outputs)

    def explained_outputs(self, outputs: Outputs) -> NDArray[np.int64]:
        """Return the last column: the log-probability of the caption."""
        return np.full(len(outputs), outputs.shape[2] - 1, np.int64)

    def shown_clip(self, outputs: Outputs, explained: int) -> int:  # noqa: ARG002
        """Return the clip whose caption ``combine_clips`` takes."""
        return int(self.confidence(outputs).argmax())

    def guesses(self, target: str, output: Outputs) -> list[Guess]:
        """Return the caption with its ROUGE-L."""
        caption = self._captions(output[None])[0]
        score = float(self.video_scores([target], output[None])[0])
        return [Guess(caption, score, caption in _normalised([target])[0])]

    # Serving.

    def answer(self, output: Outputs, *, top_k: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the caption, its log-probability, and log-probability and attention by word.

        The attention of a word is a number for each real frame of the clip, with four digits;
        they sum to 1. The log-probability of the caption includes that of its end.
        """
        words = self._words(output)
        attention = output[_ATTENTION:, : len(words)].T
        n_frames = np.count_nonzero(attention.any(axis=0))
        return {
            "caption": " ".join(words),
            "log_probability": float(output[_TOTAL, -1]),
            "words": [
                {
                    "word": word,
                    "log_probability": float(value),
                    "attention": [round(float(weight), 4) for weight in row[:n_frames]],
                }
                for word, value, row in zip(words, _steps(output), attention, strict=False)
            ],
        }

    def answer_line(self, answer: Mapping[str, Any], *, shown: int) -> list[str]:  # noqa: ARG002
        return [answer["caption"] or "no word", f"log-probability {answer['log_probability']:.2f}"]

    def answer_cells(self, answer: Mapping[str, Any]) -> dict[str, str]:
        return {
            "predicted": answer["caption"],
            "log_probability": f"{answer['log_probability']:.9g}",
        }

    @classmethod
    def outputs_from_answers(
        cls,
        answers: Sequence[Mapping[str, Any]],
        targets: Sequence[str],  # noqa: ARG003
    ) -> tuple[Self, Outputs]:
        """Return words and log-probabilities, without attention."""
        captions, log_probabilities = [], []
        for answer in answers:
            values = [word["log_probability"] for word in answer["words"]]
            captions.append([word["word"] for word in answer["words"]])
            log_probabilities.append([*values, answer["log_probability"] - sum(values)])
        return cls._from_words(captions, log_probabilities)

    @classmethod
    def _from_words(
        cls, captions: Sequence[Sequence[str]], log_probabilities: Sequence[Sequence[float]]
    ) -> tuple[Self, Outputs]:
        """Return task and outputs [N, 2, max_words + 2] of captions and a value for each token."""
        words = tuple(sorted({word for caption in captions for word in caption}))
        task = cls(words, max_words=max(map(len, log_probabilities)) - 1)
        outputs = np.zeros((len(captions), _ATTENTION, task.max_words + 2))
        for row, (caption, values) in enumerate(zip(captions, log_probabilities, strict=True)):
            ids = [*task.vocabulary.ids(caption), END]
            outputs[row, _TOKEN, : len(ids)] = ids
            outputs[row, _TOTAL, : len(ids)] = np.cumsum(values)
            outputs[row, _TOTAL, len(ids) :] = np.sum(values)
        return task, outputs

    def _certain(self, captions: Sequence[str]) -> Outputs:
        """Return outputs of probability 1 for training captions, without unknown words."""
        outputs = np.zeros((len(captions), _ATTENTION, self.max_words + 2))
        for output, caption in zip(outputs, captions, strict=True):
            known = [number for number in self.vocabulary.ids(caption.split()) if number != UNKNOWN]
            ids = [*known[: self.max_words], END]
            output[_TOKEN, : len(ids)] = ids
        return outputs

    def _words(self, output: Outputs) -> list[str]:
        return self.vocabulary.decode(output[_TOKEN].astype(np.int64).tolist())

    def _captions(self, outputs: Outputs) -> list[str]:
        return [" ".join(self._words(output)) for output in outputs]


def _normalised(targets: Sequence[str]) -> list[list[str]]:
    """Return the references of each target as words, separated by spaces."""
    return [
        [" ".join(caption_words(caption)) for caption in split_references(target)]
        for target in targets
    ]


def _n_tokens(outputs: Outputs) -> NDArray[np.int64]:
    """Return int64 [N]: the number of words and ends of each output."""
    return np.asarray((outputs[:, _TOKEN] != PADDING).sum(axis=1), np.int64)


def _steps(output: Outputs) -> NDArray[np.float64]:
    """Return float64 [max_words + 2]: the log-probability of each token."""
    return np.diff(output[_TOTAL], prepend=0.0)

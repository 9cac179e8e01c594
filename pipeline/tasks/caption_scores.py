"""Scores of captions against references: CIDEr-D, BLEU-4, chrF, ROUGE-L.

Captions and references are normalised words, separated by spaces; see ``targets.caption_words``.
References: one list of captions for each of N videos.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MAX_ORDER = 4  # the longest n-grams of CIDEr-D and BLEU-4, in words
_SIGMA = 6.0  # of the length penalty of CIDEr-D, in words
_CIDER_SCALE = 10.0

BLEU_TERMS = 2 * _MAX_ORDER + 2

_NGrams = Counter[tuple[str, ...]]


def cider_d(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return the CIDEr-D score of each caption, float64 [N], from 0 to 10.

    An n-gram has the weight (occurrences) * log(N / df), where df is the number of videos with the
    n-gram in a reference. Over n = 1 to 4 and all references, the mean of the cosine similarity
    with clipped occurrences, and a penalty of different lengths. An n-gram in the references of
    every video has weight 0, so that one video alone has score 0. Source: Vedantam et al., CIDEr:
    Consensus-based Image Description Evaluation, 2015, arXiv 1411.5726, section 6; the scale and
    the length, counted in bigrams, are those of the authors' program.
    """
    cooked = [[_ngrams(reference) for reference in row] for row in references]
    frequency = Counter(ngram for row in cooked for ngram in set().union(*row))
    log_videos = np.log(len(references))

    def weighted(ngrams: _NGrams) -> list[dict[tuple[str, ...], float]]:
        """Return the weights of the n-grams of each length."""
        weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(_MAX_ORDER)]
        for ngram, count in ngrams.items():
            rarity = log_videos - np.log(max(1, frequency[ngram]))
            weights[len(ngram) - 1][ngram] = count * rarity
        return weights

    scores = np.zeros(len(captions))
    for index, (caption, row) in enumerate(zip(captions, cooked, strict=True)):
        ngrams = _ngrams(caption)
        weights = weighted(ngrams)
        for reference in row:
            penalty = np.exp(-((_bigrams(ngrams) - _bigrams(reference)) ** 2) / (2 * _SIGMA**2))
            similarities = map(_clipped_cosine, weights, weighted(reference))
            scores[index] += penalty * sum(similarities) / _MAX_ORDER / len(row)
    return _CIDER_SCALE * scores


def bleu_terms(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return float64 [N, BLEU_TERMS]: terms whose sums over videos give ``bleu_from_sums``.

    For n = 1 to 4 the n-grams that a reference has, and all n-grams, of the caption; its length,
    and the length of the reference that is closest in length.
    """
    from sacrebleu.metrics.bleu import BLEU

    bleu = BLEU(tokenize="none", effective_order=True)
    rows = []
    for caption, row in zip(captions, references, strict=True):
        score = bleu.sentence_score(caption, list(row))
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, np.float64)


def bleu_from_sums(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return BLEU-4 [...], from 0 to 1, from sums of ``bleu_terms`` [..., BLEU_TERMS].

    Without smoothing: 0 if no 4-gram is right. Source: Papineni et al., BLEU, 2002, ACL.
    """
    right, total, (length, reference) = (
        sums[..., :_MAX_ORDER],
        sums[..., _MAX_ORDER : 2 * _MAX_ORDER],
        np.moveaxis(sums[..., 2 * _MAX_ORDER :], -1, 0),
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # log 0 is -inf, and 0 / 0 has no n-gram
        precision = np.where(total > 0, right / total, 0)
        brevity = np.where(length > 0, np.minimum(0, 1 - reference / length), -np.inf)
        bleu: NDArray[np.float64] = np.exp(np.log(precision).mean(axis=-1) + brevity)
    return bleu


def chrf(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return chrF of each caption, float64 [N], from 0 to 1: F of character n-grams.

    Source: Popović, chrF, 2015, WMT. Of several references, the best counts.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    pairs = zip(captions, references, strict=True)
    return np.array(
        [metric.sentence_score(caption, list(row)).score / 100 for caption, row in pairs]
    )


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return ROUGE-L of each caption, float64 [N]: F of the longest common subsequence, 0 to 1.

    Source: Lin, ROUGE, 2004, ACL Workshop. Of several references, the best counts.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(captions, references, strict=True)
    return np.array(
        [scorer.score_multi(list(row), caption)["rougeL"].fmeasure for caption, row in pairs]
    )


class _Words:
    """A tokenizer of rouge-score: its own drops letters other than a to z."""

    def tokenize(self, text: str) -> list[str]:
        return text.split()


def _ngrams(caption: str) -> _NGrams:
    """Return the n-grams of 1 to 4 words."""
    words = caption.split()
    return Counter(
        tuple(words[start : start + length])
        for length in range(1, _MAX_ORDER + 1)
        for start in range(len(words) - length + 1)
    )


def _bigrams(ngrams: _NGrams) -> int:
    return sum(count for ngram, count in ngrams.items() if len(ngram) == 2)


def _clipped_cosine(
    caption: dict[tuple[str, ...], float], reference: dict[tuple[str, ...], float]
) -> float:
    """Return the cosine similarity; n-grams count at most as often as in the reference."""
    product = sum(
        min(weight, reference[ngram]) * reference[ngram]
        for ngram, weight in caption.items()
        if ngram in reference
    )
    norms = [np.sqrt(sum(weight**2 for weight in side.values())) for side in (caption, reference)]
    return float(product / (norms[0] * norms[1])) if product else 0.0

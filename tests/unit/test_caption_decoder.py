"""The search of ``CaptionDecoder`` agrees with the probabilities that training fits."""

from itertools import product

import keras
import numpy as np
import pytest

from pipeline.tasks.caption_decoder import CaptionDecoder, WordAccuracy, WordCrossentropy
from pipeline.tasks.vocabulary import END, FIRST_WORD, PADDING, START, UNKNOWN

STREAMS = ("frames", "differences")
N_TOKENS = FIRST_WORD + 3
MAX_WORDS = 3


def inputs_of(n_clips=4, n_steps=5, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, n_steps + 1, n_clips)
    return {
        "steps": [rng.normal(size=(n_clips, n_steps, 6)).astype(np.float32) for _ in STREAMS],
        "clips": [rng.normal(size=(n_clips, 5)).astype(np.float32) for _ in STREAMS],
        "mask": np.arange(n_steps) < lengths[:, None],
    }


def decoder_of(beam_width: int, *, seed=1) -> CaptionDecoder:
    """A decoder with random weights that are large enough for clear preferences."""
    decoder = CaptionDecoder(STREAMS, n_tokens=N_TOKENS, max_words=MAX_WORDS, beam_width=beam_width)
    decoder(**inputs_of())
    rng = np.random.default_rng(seed)
    decoder.set_weights([rng.normal(size=weight.shape) for weight in decoder.weights])
    decoder.stream_weights.assign([0.3, 0.7])
    return decoder


def log_probabilities(decoder: CaptionDecoder, inputs, tokens: np.ndarray) -> np.ndarray:
    """Return float [B, L]: log-probability of each of the tokens [B, L] by teacher forcing."""
    before = np.concatenate([np.full((len(tokens), 1), START), tokens[:, :-1]], axis=1)
    logits = np.array(decoder(**inputs, tokens=before.astype(np.int32)))[:, -1]
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return np.take_along_axis(logits, tokens[..., None].astype(int), axis=-1)[..., 0]


def all_captions() -> np.ndarray:
    """Every sequence of words and END that the decoder can write, padded."""
    return np.array(
        [
            [*words, END, *[PADDING] * (MAX_WORDS + 1 - length)]
            for length in range(MAX_WORDS + 1)
            for words in product(range(FIRST_WORD, N_TOKENS), repeat=length)
        ]
    )


@pytest.mark.parametrize("beam_width", [1, 3])
def test_the_log_probabilities_are_those_of_teacher_forcing(beam_width):
    decoder, inputs = decoder_of(beam_width), inputs_of()
    tokens, totals = np.moveaxis(np.array(decoder(**inputs))[:, :2], 1, 0)
    assert (tokens[:, -1] == PADDING).all()
    steps = np.where(tokens == PADDING, 0, log_probabilities(decoder, inputs, tokens))
    np.testing.assert_allclose(totals, np.cumsum(steps, axis=1), atol=1e-4)


def test_greedy_search_takes_the_most_probable_word():
    decoder, inputs = decoder_of(1), inputs_of()
    tokens = np.array(decoder(**inputs))[:, 0]
    before = np.concatenate([np.full((len(tokens), 1), START), tokens[:, :-1]], axis=1)
    logits = np.array(decoder(**inputs, tokens=before.astype(np.int32)))[:, -1]
    logits[..., [token for token in range(FIRST_WORD) if token != END]] = -np.inf
    logits[:, MAX_WORDS:, FIRST_WORD:] = -np.inf
    is_word = tokens != PADDING
    assert (logits.argmax(axis=-1)[is_word] == tokens[is_word]).all()


def test_a_wide_beam_finds_the_best_of_all_captions():
    captions = all_captions()
    decoder, inputs = decoder_of(len(captions)), inputs_of()
    lengths = (captions != PADDING).sum(axis=1)
    for index, tokens in enumerate(np.array(decoder(**inputs))[:, 0]):
        one = keras.tree.map_structure(
            lambda array: np.repeat(array[[index]], len(captions), axis=0),  # noqa: B023
            inputs,
        )
        scores = np.where(captions == PADDING, 0, log_probabilities(decoder, one, captions))
        best = (scores.sum(axis=1) / lengths).argmax()
        assert tokens.tolist() == captions[best].tolist()


def test_a_wider_beam_does_not_find_less_probable_captions_on_average():
    inputs = inputs_of(n_clips=64)
    greedy, wide = (
        np.array(decoder_of(width)(**inputs))[:, 1, -1].mean() for width in (1, N_TOKENS**2)
    )
    assert wide > greedy


def test_a_caption_contains_words_only_and_padding_follows_its_end():
    for seed in range(5):
        tokens = np.array(decoder_of(2, seed=seed)(**inputs_of(n_clips=32)))[:, 0]
        assert (tokens[:, -1] == PADDING).all()
        for row in tokens[:, :-1].astype(int).tolist():
            n_words = next((n for n, token in enumerate(row) if token < FIRST_WORD), len(row))
            assert row[n_words:] == [END, *[PADDING] * (MAX_WORDS - n_words)]


def test_a_caption_has_at_most_max_words_words():
    decoder = decoder_of(2)
    bias = np.zeros(N_TOKENS)
    bias[END] = -100
    for stream in decoder.decoders:
        stream.logits.bias.assign(bias)
    tokens = np.array(decoder(**inputs_of()))[:, 0]
    assert (tokens[:, :MAX_WORDS] >= FIRST_WORD).all()
    assert (tokens[:, MAX_WORDS] == END).all()


@pytest.mark.parametrize("scale", [1, 1000])
def test_each_word_attends_to_every_real_frame_and_to_no_other(scale):
    inputs = inputs_of()
    inputs["steps"] = [scale * steps for steps in inputs["steps"]]
    packed = np.array(decoder_of(3)(**inputs))
    tokens, attention = packed[:, 0], np.moveaxis(packed[:, 2:], 1, 2)
    assert ((attention > 0) == (inputs["mask"][:, None] & (tokens != PADDING)[..., None])).all()
    np.testing.assert_allclose(attention.sum(axis=-1), tokens != PADDING, atol=1e-5)


def test_padding_of_a_caption_changes_neither_loss_nor_accuracy():
    rng = np.random.default_rng(0)
    words = np.array([[4, 5, END, PADDING], [6, END, PADDING, PADDING]])
    logits = rng.normal(size=(2, 4, N_TOKENS)).astype(np.float32)
    other = np.where((words == PADDING)[..., None], rng.normal(size=logits.shape), logits)
    loss = WordCrossentropy(0.0)
    log_softmax = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = [
        -log_softmax[0, range(3), words[0, :3]].mean(),
        -log_softmax[1, [0, 1], [6, END]].mean(),
    ]
    assert float(loss(words, logits)) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(loss(words, other.astype(np.float32))) == pytest.approx(float(loss(words, logits)))
    accuracy = WordAccuracy(name="word_accuracy")
    accuracy.update_state(words, keras.ops.one_hot([[4, 5, 4, 4], [4, END, 0, 0]], N_TOKENS))
    assert float(accuracy.result()) == pytest.approx(3 / 5)


def test_an_unknown_word_is_never_right():
    accuracy = WordAccuracy(name="word_accuracy")
    words = np.array([[4, UNKNOWN, END]])
    accuracy.update_state(words, keras.ops.one_hot(words, N_TOKENS))
    assert float(accuracy.result()) == pytest.approx(2 / 3)

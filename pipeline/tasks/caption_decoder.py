"""Keras layers, loss and metric of captions: an LSTM decoder with attention over the frames."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from pipeline.tasks.heads import FUSED, fusion_of, stream_weights_of, weighted_sum
from pipeline.tasks.vocabulary import END, FIRST_WORD, PADDING, START, UNKNOWN

_EMBEDDING = 64
_UNITS = 128
_ATTENTION_UNITS = 64
_IMPOSSIBLE = -1e9  # a score whose probability is exactly 0
_LEAST_SCORE = -60.0  # of a real frame, below the best; a lower one would have the weight 0

_Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="pipeline")
class StreamDecoder(keras.layers.Layer):  # type: ignore[misc]  # Keras has no types
    """Predict the next word of a caption from one stream, given the words so far.

    An LSTM reads the words so far; its first state comes from the clip features. Each of its
    states is a query for dot-product attention over the steps, and state and attended steps give
    the next word. Sources: Vinyals et al., Show and Tell, 2015, arXiv 1411.4555 (encoder and
    decoder); Luong et al., 2015, arXiv 1508.04025, section 3.1 (attention after the LSTM). It
    computes in float32 in every precision.

    Args:
        n_tokens: V, the number of token ids.

    Call arguments:
        clip: [B, G].
        steps: [B, T, S].
        mask: bool [B, T], True for a real step, at least one a row.
        tokens: int32 [B, L], the words so far, ``START`` first.

    Returns:
        Logits [B, L, V] of the next word at each position.
    """

    def __init__(self, n_tokens: int, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_masking = True  # the mask is an argument
        self.n_tokens = n_tokens

        def dense(units: int, name: str, activation: str | None = None) -> keras.layers.Dense:
            return keras.layers.Dense(units, activation=activation, dtype="float32", name=name)

        self.embedding = keras.layers.Embedding(
            n_tokens, _EMBEDDING, dtype="float32", name="embedding"
        )
        self.first_hidden = dense(_UNITS, "first_hidden", "tanh")
        self.first_memory = dense(_UNITS, "first_memory", "tanh")
        self.lstm = keras.layers.LSTM(_UNITS, return_sequences=True, dtype="float32", name="lstm")
        self.query = dense(_ATTENTION_UNITS, "query")
        self.key = dense(_ATTENTION_UNITS, "key")
        self.readout = dense(_UNITS, "readout", "tanh")
        self.logits = dense(n_tokens, "logits")

    def build(self, clip_shape: _Shape, steps_shape: _Shape) -> None:
        self.embedding.build((None, None))
        self.first_hidden.build(clip_shape)
        self.first_memory.build(clip_shape)
        self.lstm.build((None, None, _EMBEDDING))
        self.query.build((None, None, _UNITS))
        self.key.build(steps_shape)
        self.readout.build((None, None, _UNITS + int(steps_shape[-1] or 0)))
        self.logits.build((None, None, _UNITS))

    def call(
        self,
        clip: keras.KerasTensor,
        steps: keras.KerasTensor,
        mask: keras.KerasTensor,
        tokens: keras.KerasTensor,
    ) -> keras.KerasTensor:
        states = self.lstm(self.embedding(tokens), initial_state=self.first_states(clip))
        return self.next_words(states, steps, mask)[0]

    def first_states(self, clip: keras.KerasTensor) -> list[keras.KerasTensor]:
        """Return hidden and memory state [B, units] before the first word."""
        return [self.first_hidden(clip), self.first_memory(clip)]

    def add_words(
        self,
        words: keras.KerasTensor,
        states: Sequence[keras.KerasTensor],
        steps: keras.KerasTensor,
        mask: keras.KerasTensor,
    ) -> tuple[list[keras.KerasTensor], keras.KerasTensor, keras.KerasTensor]:
        """Read one more word of each of K captions of a clip.

        Args:
            words: int32 [B, K].
            states: hidden and memory state, [B, K, units].

        Returns:
            The new states, and logits [B, K, V] and attention [B, K, T] of the next word.
        """
        inputs = self.embedding(ops.reshape(words, (-1,)))
        _, after = self.lstm.cell(inputs, [ops.reshape(state, (-1, _UNITS)) for state in states])
        after = [ops.reshape(state, (-1, words.shape[1], _UNITS)) for state in after]
        return after, *self.next_words(after[0], steps, mask)

    def next_words(
        self, states: keras.KerasTensor, steps: keras.KerasTensor, mask: keras.KerasTensor
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Return logits [B, L, V] and attention [B, L, T] of LSTM states [B, L, units].

        Attention is positive for real frames only.
        """
        scores = ops.matmul(self.query(states), ops.transpose(self.key(steps), (0, 2, 1)))
        scores = ops.where(mask[:, None], scores / _ATTENTION_UNITS**0.5, _IMPOSSIBLE)
        # A softmax by hand: that of Keras warns of clips of one frame.
        scores = ops.maximum(scores - ops.max(scores, axis=-1, keepdims=True), _LEAST_SCORE)
        weights = ops.where(mask[:, None], ops.exp(scores), 0.0)
        attention = weights / ops.sum(weights, axis=-1, keepdims=True)
        attended = ops.concatenate([states, ops.matmul(attention, steps)], axis=-1)
        return self.logits(self.readout(attended)), attention

    def compute_output_shape(
        self,
        clip_shape: _Shape,  # noqa: ARG002
        steps_shape: _Shape,  # noqa: ARG002
        tokens_shape: _Shape,
    ) -> _Shape:
        return (*tokens_shape, self.n_tokens)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "n_tokens": self.n_tokens}


@keras.saving.register_keras_serializable(package="pipeline")
class CaptionDecoder(keras.layers.Layer):  # type: ignore[misc]
    """Write a caption of a clip, one word at a time.

    Each stream predicts the next word, and the weighted mean of their logits decides. Source of
    this fusion: Venugopalan et al., Sequence to Sequence - Video to Text, 2015, arXiv 1505.00487,
    section 3.3.

    Args:
        streams: names of the S streams.
        n_tokens: V, the number of token ids.
        max_words: of a caption.
        beam_width: captions that beam search keeps at each word; 1 is greedy search.

    Call arguments:
        clips: clip features [B, G] of each stream.
        steps: [B, T, S] of each stream.
        mask: bool [B, T], True for a real step, at least one a row.
        tokens: int32 [B, L], the words so far, ``START`` first, for training. None: search.

    Returns:
        With ``tokens``: logits [B, S + 1, L, V] of the next word at each position, of each stream
        and then of their fusion. Otherwise the caption with the highest log-probability per word,
        float32 [B, 2 + T, max_words + 2]: at each position the token id, the log-probability of
        the caption up to here, and the attention to each step, the weighted mean over the streams.
        ``END`` follows at most ``max_words`` words, whatever its probability; after it, ids and
        attention are 0, so the last position has only the log-probability of the caption.
    """

    def __init__(
        self,
        streams: Sequence[str],
        *,
        n_tokens: int,
        max_words: int,
        beam_width: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"dtype": "float32", **kwargs})
        self.supports_masking = True  # the mask is an argument
        self.supports_jit = False
        self.streams = list(streams)
        self.n_tokens, self.max_words, self.beam_width = n_tokens, max_words, beam_width
        self.decoders = [StreamDecoder(n_tokens, name=name) for name in streams]

    def build(self, clips_shape: Sequence[_Shape], steps_shape: Sequence[_Shape]) -> None:
        self.stream_weights = stream_weights_of(self, len(self.streams))
        for decoder, clip, steps in zip(self.decoders, clips_shape, steps_shape, strict=True):
            decoder.build(clip, steps)

    def call(
        self,
        clips: Sequence[keras.KerasTensor],
        steps: Sequence[keras.KerasTensor],
        mask: keras.KerasTensor,
        tokens: keras.KerasTensor | None = None,
    ) -> keras.KerasTensor:
        if tokens is None:
            return self._search(clips, steps, mask)
        logits = [
            decoder(clip, own_steps, mask, tokens)
            for decoder, clip, own_steps in zip(self.decoders, clips, steps, strict=True)
        ]
        return ops.stack([*logits, weighted_sum(self.stream_weights, logits)], axis=1)

    def _search(
        self,
        clips: Sequence[keras.KerasTensor],
        steps: Sequence[keras.KerasTensor],
        mask: keras.KerasTensor,
    ) -> keras.KerasTensor:
        """Return the best caption that beam search finds, as ``call``.

        Shapes in the loop: B clips, K beams, L positions. States are the hidden and the memory
        state of each stream, one after the other.
        """
        beams, length, n_tokens = self.beam_width, self.max_words + 1, self.n_tokens
        n_clips, n_steps = ops.shape(mask)[0], ops.shape(mask)[1]
        token_ids = ops.arange(n_tokens)
        # After END, padding is certain.
        only_padding = ops.where(token_ids == PADDING, 0.0, _IMPOSSIBLE)
        positions = ops.arange(length + 1)

        def choose(values: keras.KerasTensor, beam: keras.KerasTensor) -> keras.KerasTensor:
            """Return values [B, K, ...] of the beams [B, K]."""
            index = ops.reshape(beam, (-1, beam.shape[1], *[1] * (len(values.shape) - 2)))
            return ops.take_along_axis(values, index, axis=1)

        def is_running(position: Any, last: Any, *_: Any) -> Any:
            is_open = (last != END) & (last != PADDING)
            return (position < length) & ops.any(is_open)

        def add_word(
            position: Any, last: Any, total: Any, tokens: Any, totals: Any, attentions: Any,
            *states: Any,
        ) -> tuple[Any, ...]:  # fmt: skip
            after, logits, attention = [], [], []
            for number, decoder in enumerate(self.decoders):
                own = states[2 * number : 2 * number + 2]
                own_after, own_logits, own_attention = decoder.add_words(
                    last, own, steps[number], mask
                )
                after += own_after
                logits.append(own_logits)
                attention.append(own_attention)
            is_done = (last == END) | (last == PADDING)
            may_be_word = (token_ids >= FIRST_WORD) & (position < self.max_words)
            allowed = ops.where((token_ids == END) | may_be_word, 0.0, _IMPOSSIBLE)
            gains = ops.log_softmax(weighted_sum(self.stream_weights, logits), axis=-1) + allowed
            gains = ops.where(is_done[..., None], only_padding, gains)
            attended = ops.where(
                is_done[..., None], 0.0, weighted_sum(self.stream_weights, attention)
            )
            candidates = ops.reshape(total[..., None] + gains, (-1, beams * n_tokens))
            total, best = ops.top_k(candidates, beams)
            beam, last = best // n_tokens, best % n_tokens
            is_here = positions == position
            # Later positions repeat the log-probability of the caption.
            return (
                position + 1,
                last,
                total,
                ops.where(is_here, last[..., None], choose(tokens, beam)),
                ops.where(positions >= position, total[..., None], choose(totals, beam)),
                ops.where(is_here, choose(attended, beam)[..., None], choose(attentions, beam)),
                *(choose(state, beam) for state in after),
            )

        shape = (n_clips, beams)
        is_first = ops.arange(beams) == 0  # all beams are equal at first, so one is enough
        first = [
            ops.repeat(state[:, None], beams, axis=1)
            for decoder, clip in zip(self.decoders, clips, strict=True)
            for state in decoder.first_states(clip)
        ]
        _, _, total, tokens, totals, attentions, *_ = ops.while_loop(
            is_running,
            add_word,
            (
                0,
                ops.full(shape, START, "int32"),
                ops.broadcast_to(ops.where(is_first, 0.0, _IMPOSSIBLE), shape),
                ops.full((*shape, length + 1), PADDING, "int32"),
                ops.zeros((*shape, length + 1)),
                ops.zeros((*shape, n_steps, length + 1)),
                *first,
            ),
        )
        n_written = ops.sum(ops.cast(tokens != PADDING, "float32"), axis=-1)
        best = ops.argmax(total / ops.maximum(n_written, 1.0), axis=-1)[:, None]
        rows = [ops.cast(tokens, "float32")[:, :, None], totals[:, :, None], attentions]
        return choose(ops.concatenate(rows, axis=2), best)[:, 0]

    def compute_output_shape(
        self,
        clips_shape: Sequence[_Shape],  # noqa: ARG002
        steps_shape: Sequence[_Shape],
        tokens_shape: _Shape | None = None,
    ) -> _Shape:
        if tokens_shape is not None:
            n_clips, length = tokens_shape
            return (n_clips, len(self.streams) + 1, length, self.n_tokens)
        (n_clips, n_steps, *_), *_ = steps_shape
        return (n_clips, None if n_steps is None else 2 + n_steps, self.max_words + 2)

    def compute_mask(self, *_: Any, **__: Any) -> None:
        return None

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "streams": self.streams,
            "n_tokens": self.n_tokens,
            "max_words": self.max_words,
            "beam_width": self.beam_width,
        }


def training_model(model: keras.Model) -> keras.Model:
    """Return the model that reads the words so far, and predicts the logits of the next ones.

    It has the layers of ``model``, whose output is a ``CaptionDecoder``, and the further input
    ``tokens`` int32 [B, L]. Its outputs are those of ``heads.training_model``.
    """
    decoder, node = fusion_of(model)
    *features, mask = node.input_tensors
    n_streams = len(decoder.streams)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    logits = decoder(features[:n_streams], features[n_streams:], mask=mask, tokens=tokens)
    outputs = logits[:, -1]
    if n_streams > 1:
        by_stream = {name: logits[:, number] for number, name in enumerate(decoder.streams)}
        outputs = {**by_stream, FUSED: outputs}
    training = keras.Model({**model.input, "tokens": tokens}, outputs, name=model.name)
    training.dtype_policy = model.dtype_policy  # Keras scales the loss if it is mixed_float16
    return training


class WordCrossentropy(keras.losses.Loss):  # type: ignore[misc]  # Keras has no types
    """Mean cross-entropy of the words of a caption; padding has no loss.

    Args:
        label_smoothing: 0 to 1.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__(name="word_crossentropy")
        self._label_smoothing = label_smoothing

    def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
        """Return float32 [B] for token ids [B, L] and logits [B, L, V]."""
        one_hot = ops.one_hot(y_true, y_pred.shape[-1])
        losses = keras.losses.categorical_crossentropy(
            one_hot, y_pred, from_logits=True, label_smoothing=self._label_smoothing
        )
        is_word = ops.cast(y_true != PADDING, losses.dtype)
        return ops.sum(losses * is_word, axis=-1) / ops.sum(is_word, axis=-1)


class WordAccuracy(keras.metrics.Mean):  # type: ignore[misc]
    """Proportion of words that are predicted from the right words before them.

    An unknown word counts as wrong, because no caption can have it.
    """

    def update_state(
        self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor, sample_weight: Any = None
    ) -> None:
        is_right = (ops.argmax(y_pred, axis=-1) == ops.cast(y_true, "int32")) & (y_true != UNKNOWN)
        is_word = ops.cast(y_true != PADDING, "float32")
        if sample_weight is not None:
            is_word = is_word * sample_weight[:, None]
        super().update_state(ops.cast(is_right, "float32"), sample_weight=is_word)

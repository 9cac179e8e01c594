import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu

from pipeline.clips.batches import evaluation_batches, training_batches
from pipeline.common.errors import PipelineError
from pipeline.common.tables import read_table_csv
from pipeline.dataset.layouts import read_labels
from pipeline.dataset.settings import DataSection
from pipeline.evaluation.predictions import Predictions, on_same_videos, pool
from pipeline.evaluation.settings import EvaluateSection
from pipeline.tasks.caption import Caption
from pipeline.tasks.caption_scores import cider_d, rouge_l
from pipeline.tasks.settings import TaskSection
from pipeline.tasks.targets import caption_words, join_references, targets_of
from pipeline.tasks.task import BaselineClips, task_from_json, task_to_json
from pipeline.tasks.vocabulary import END, FIRST_WORD, PADDING, START, UNKNOWN

CAPTIONS = [["a man runs", "the man is running"], ["a dog jumps"], ["a dog runs"], ["a cat runs"]]
TARGETS = [join_references(row) for row in CAPTIONS]
TASK = Caption.learn(TARGETS, TaskSection(type="caption", max_words=4))
PREDICTED = ["a man runs", "a dog runs", "dog", "the cat is running"]
RESAMPLING = EvaluateSection(bootstrap_samples=50).resampling(list("abcd"))
VIDEOS = ("a", "b", "c", "d")


def outputs_of(captions, task=TASK, probability=0.5, attention=None):
    """Outputs [N, 2 + T, L] for captions whose tokens have one probability each."""
    answers = [
        {
            "words": [
                {"word": word, "log_probability": np.log(probability)} for word in caption.split()
            ],
            "log_probability": np.log(probability) * (len(caption.split()) + 1),
        }
        for caption in captions
    ]
    other, outputs = Caption.outputs_from_answers(answers, [])
    outputs = other.convert(outputs, task)
    if attention is None:
        return outputs
    is_token = outputs[:, :1] != PADDING
    return np.concatenate([outputs, np.array(attention)[None, :, None] * is_token], axis=1)


OUTPUTS = outputs_of(PREDICTED)


# Labels and vocabulary.


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man's hat, THE well-known one.", "a mans hat the well known one"),
        ("Zwei Mädchen tanzen: schön!", "zwei mädchen tanzen schön"),
        ("  3 dogs\u2019 toys_2  ", "3 dogs toys 2"),
        ("...", ""),
    ],
)
def test_words_are_lower_case_and_without_punctuation(text, words):
    assert " ".join(caption_words(text)) == words


def test_the_rows_of_a_video_are_its_references(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_text(
        'video,caption\na.mp4,A man runs.\nb.mp4,"A dog, jumping"\na.mp4,The man is running\n'
    )
    records = read_labels(DataSection(videos=str(tmp_path)), targets_of("caption"))
    assert [json.loads(record.target) for record in records] == [
        ["A man runs.", "The man is running"],
        ["A dog, jumping"],
    ]


@pytest.mark.parametrize("cell", ["", "?!"])
def test_a_caption_without_a_word_names_its_row(cell):
    with pytest.raises(PipelineError, match=r"labels.csv, line 2: the column caption must have"):
        targets_of("caption").read({"caption": cell}, where="labels.csv, line 2")


def test_rare_words_are_unknown():
    task = Caption.learn(TARGETS, TaskSection(type="caption", min_word_count=2))
    assert task.words == ("a", "runs", "dog", "man")
    assert task.encode([join_references(["A cat RUNS!"])])[0, 0, :4].tolist() == [
        FIRST_WORD,
        UNKNOWN,
        FIRST_WORD + 1,
        END,
    ]
    assert task_from_json(task_to_json(task)) == task
    with pytest.raises(PipelineError, match=r"task.min_word_count must leave a word.* 9"):
        Caption.learn(TARGETS, TaskSection(type="caption", min_word_count=9))


def test_a_caption_of_max_words_is_whole_and_a_longer_one_is_cut_without_an_end():
    task = Caption.learn(TARGETS, TaskSection(type="caption", max_words=2))
    whole, cut = task.encode([join_references(["A man", "a man runs"])])[0].tolist()
    assert whole == [*task.vocabulary.ids(["a", "man"]), END]
    assert cut == [*task.vocabulary.ids(["a", "man"]), PADDING]


def test_a_mirror_swaps_words_in_every_reference():
    task = Caption(("left", "right", "turn"))
    task.check_mirror([["left", "right"]])
    encoded = task.encode([join_references(["Turn left", "right turn"])])[0]
    mirrored = task.mirrored(tf.constant(encoded), [["left", "right"]]).numpy()
    expected = task.encode([join_references(["turn right", "left turn"])])[0]
    assert mirrored.tolist() == expected.tolist()
    with pytest.raises(PipelineError, match=r"flip_swaps: expected pairs of .* Received: down"):
        task.check_mirror([["left", "down"]])


# Training.


class OneFrame:
    """Clips of one frame."""

    def __len__(self):
        return len(TARGETS)

    def frame_inputs(self, index):
        return {"frames": np.full((1, 2, 2, 3), index, np.uint8)}

    def mask(self, index):  # noqa: ARG002
        return np.array([True])

    def side_arrays(self):
        return {}


def test_each_training_step_draws_one_reference_and_reads_the_words_before():
    options = {"batch_size": 4, "prepare": TASK.training_example}
    batches = training_batches(OneFrame(), TASK.encode(TARGETS), seed=0, **options)
    drawn = set()
    for inputs, references in [batch for _ in range(8) for batch in batches]:
        assert inputs["tokens"][:, 0].numpy().tolist() == [START] * 4
        assert (inputs["tokens"][:, 1:] == references[:, :-1]).numpy().all()
        for frames, reference in zip(inputs["frames"], references, strict=True):
            words = TASK.vocabulary.decode(reference.numpy().tolist())
            drawn.add((int(frames[0, 0, 0, 0]), " ".join(words)))
    assert drawn == {(row, text) for row, texts in enumerate(CAPTIONS) for text in texts}
    validation = [
        np.concatenate([references for _, references in evaluation_batches(
            OneFrame(), TASK.encode(TARGETS), **options
        )])
        for _ in range(2)
    ]  # fmt: skip
    assert validation[0].tolist() == validation[1].tolist()


def test_class_weights_are_refused():
    with pytest.raises(PipelineError, match=r"train.class_weights must be none"):
        TASK.loss(label_smoothing=0, balanced_on=TASK.encode(TARGETS))


# Scores.


def random_captions(seed):
    rng = np.random.default_rng(seed)
    words = ("a", "man", "dog", "runs", "jumps", "and", "then", "stops")

    def caption():
        return " ".join(rng.choice(words, rng.integers(1, 9)))

    references = [[caption() for _ in range(rng.integers(1, 4))] for _ in range(30)]
    return [caption() for _ in references], references


@pytest.mark.parametrize("seed", range(3))
def test_cider_d_is_that_of_the_reference_implementation(seed):
    captions, references = random_captions(seed)
    captions[0] = references[0][0]  # 10 for equal captions
    captions[1] = ""
    numbers = range(len(captions))
    expected, by_video = Cider().compute_score(
        {number: references[number] for number in numbers},
        {number: [captions[number]] for number in numbers},
    )
    np.testing.assert_allclose(cider_d(captions, references), by_video, atol=1e-9)
    assert cider_d(captions, references).mean() == pytest.approx(expected)


def test_the_scores_are_those_of_the_libraries():
    captions, references = random_captions(7)
    captions[0] = references[0][0]
    task = Caption(tuple(sorted({word for text in captions for word in text.split()})))
    outputs = outputs_of(captions, task)
    targets = [join_references(row) for row in references]
    scores = {
        name: score.value
        for name, score in task.scores_with_intervals(
            targets, outputs, EvaluateSection(bootstrap_samples=10).resampling(targets)
        ).items()
    }
    most = max(map(len, references))
    columns = [[row[n] if n < len(row) else None for row in references] for n in range(most)]
    sacrebleu = corpus_bleu(captions, columns, smooth_method="none", tokenize="none", force=True)
    assert scores["bleu_4"] == pytest.approx(sacrebleu.score / 100)
    coco = Bleu(4).compute_score(
        dict(enumerate(references)), {n: [text] for n, text in enumerate(captions)}, verbose=0
    )
    assert scores["bleu_4"] == pytest.approx(coco[0][3], rel=1e-6)
    scorer = RougeScorer(["rougeL"])
    rouge = [
        scorer.score_multi(row, text)["rougeL"].fmeasure
        for row, text in zip(references, captions, strict=True)
    ]
    assert scores["rouge_l"] == pytest.approx(np.mean(rouge))
    assert scores["exact_match"] == pytest.approx(
        np.mean([text in row for row, text in zip(references, captions, strict=True)])
    )


def test_rouge_l_reads_letters_of_every_language():
    assert rouge_l(["ein schöner tag"], [["ein schoner tag"]]) == pytest.approx(2 / 3)
    assert rouge_l(["собака бежит"], [["собака стоит", "собака бежит"]]) == 1


def test_the_best_reference_counts_and_case_does_not():
    targets = [join_references(["Nothing", "A man, running!"])]
    task = Caption(("a", "man", "running"))
    outputs = outputs_of(["a man running"], task)
    assert task.video_scores(targets, outputs).tolist() == [1]
    terms = task.terms(targets, outputs)
    assert task.scores(terms.sum(axis=0))["exact_match"] == 1


def test_every_score_has_an_interval():
    scores = TASK.scores_with_intervals(TARGETS, OUTPUTS, RESAMPLING)
    assert scores.keys() == {*TASK.compared_metrics}
    for score in scores.values():
        low, high = score.interval
        assert low <= score.value <= high
    assert scores["exact_match"].value == 0.25


def test_a_perfect_model_has_the_best_scores():
    outputs = outputs_of([row[0] for row in CAPTIONS])
    scores = TASK.scores_with_intervals(TARGETS, outputs, RESAMPLING)
    assert scores["rouge_l"].value == scores["exact_match"].value == 1
    assert scores["cider_d"].value > TASK.gain_unit("cider_d") / 2  # 10 without second references


# Outputs.


def test_the_most_certain_clip_of_a_video_is_its_caption():
    outputs = np.concatenate(
        [outputs_of(["a dog"], probability=value) for value in (0.2, 0.9, 0.5, 0.4)]
        + [outputs_of(["a man runs"], probability=0.6)]
    )
    combined = TASK.combine_clips(outputs, np.array([0, 0, 1, 1, 1]))
    np.testing.assert_allclose(TASK.confidence(combined), [0.9, 0.6])
    long, short = outputs_of(["a man is running"]), outputs_of(["a dog"], probability=0.4)
    both = np.concatenate([short, long, long])
    combined = TASK.combine_clips(both, np.array([0, 0, 0]))
    assert combined.tolist() == long.tolist()  # though its sum of log-probabilities is lower
    # The review shows that clip.
    assert TASK.shown_clip(both, TASK.explained_outputs(combined)[0]) == 1


def test_predictions_survive_a_csv_file(tmp_path):
    outputs = outputs_of(PREDICTED, attention=[0.5, 0.5])
    written = Predictions(VIDEOS, ("",) * 4, tuple(TARGETS), outputs, TASK)
    written.write_csv(tmp_path / "predictions.csv")
    rows = read_table_csv(tmp_path / "predictions.csv")
    assert [row["predicted"] for row in rows] == PREDICTED
    read = Predictions.read_csv(tmp_path / "predictions.csv", task_type="caption")
    assert read.targets == written.targets
    assert read.video_scores.tolist() == written.video_scores.tolist()
    # With the vocabulary of the model, the outputs are those of the model, without attention.
    np.testing.assert_allclose(read.task.convert(read.outputs, TASK), outputs[:, :2], atol=1e-8)


@pytest.mark.parametrize(
    ("column", "cell", "reason"),
    [
        ("captions", "a dog", "expected a JSON list of references. Received: 'a dog'"),
        ("log_probabilities", "-1 x", "expected numbers separated by spaces. Received: '-1 x'"),
        ("log_probabilities", "-1", "expected 2 numbers, for 1 word and the end. Received: 1"),
        ("log_probabilities", "", "expected 2 numbers, for 1 word and the end. Received: 0"),
    ],
)
def test_a_prediction_that_is_not_valid_names_its_line(column, cell, reason):
    rows = [
        {**TASK.prediction_cells(TARGETS[0], output), "video": "a"}
        for output in outputs_of(["a man runs", "dog"])
    ]
    rows[1][column] = cell
    with pytest.raises(PipelineError, match=rf"^predictions.csv, line 3: {column}: {reason}"):
        Caption.read_predictions(rows, where="predictions.csv")


def test_an_empty_caption_needs_a_log_probability():
    row = TASK.prediction_cells(TARGETS[0], outputs_of([""])[0])
    _, _, outputs = Caption.read_predictions([row], where="predictions.csv")
    assert TASK.confidence(outputs) == pytest.approx([0.5])
    with pytest.raises(PipelineError, match=r"line 2: .*expected 1 number, for 0 words and"):
        Caption.read_predictions([{**row, "log_probabilities": ""}], where="predictions.csv")


def test_an_output_with_an_unknown_token_id_is_invalid():
    outputs = OUTPUTS.copy()
    outputs[2, 0, 0] = len(TASK.vocabulary)
    assert TASK.find_invalid(OUTPUTS) is None
    assert TASK.find_invalid(outputs) == (2, "expected token ids up to 12. Received: 13")


def test_models_with_other_vocabularies_are_compared_by_their_words():
    other = Caption(("runs", "horse", "a"), max_words=6)
    captions = ["a horse runs", "runs", "a", "a horse"]
    one = Predictions(VIDEOS, ("",) * 4, tuple(TARGETS), outputs_of(PREDICTED), TASK)
    two = Predictions(VIDEOS, ("",) * 4, tuple(TARGETS), outputs_of(captions, other), other)
    a, b = on_same_videos(one, two)
    assert a.task == b.task
    for side, expected in ((a, PREDICTED), (b, captions)):
        cells = [side.task.prediction_cells(TARGETS[0], row)["predicted"] for row in side.outputs]
        assert cells == expected
    np.testing.assert_allclose(a.video_scores, one.video_scores)
    pooled = pool([one.rows([0, 1]), two.rows([2, 3])])
    cells = [pooled.task.prediction_cells(TARGETS[0], row)["predicted"] for row in pooled.outputs]
    assert cells == [*PREDICTED[:2], *captions[2:]]


def test_baselines_write_training_captions_of_known_words():
    features = np.array([[[0.0], [2.0]], [[5.0], [0.0]], [[9.0], [9.0]]], np.float32)
    mask = np.array([[True, True], [True, False], [True, True]])
    targets = [join_references([text]) for text in ("a man runs", "a dog jumps", "a dog jumps")]
    train = BaselineClips(targets, mask, lambda: features, targets)
    test = BaselineClips(TARGETS[:2], mask[:2], lambda: features[:2] + 0.1, TARGETS[:2])
    task = Caption.learn(targets, TaskSection(type="caption", min_word_count=2))
    outputs = task.baseline_outputs(train, test)
    assert outputs.keys() == task.baselines.keys()
    captions = {
        name: [task.prediction_cells(TARGETS[0], row)["predicted"] for row in part]
        for name, part in outputs.items()
    }
    assert captions == {
        "most_frequent": ["a dog jumps", "a dog jumps"],
        "nearest": ["a", "a dog jumps"],  # man and runs are rare
    }
    short = replace(task, max_words=2).baseline_outputs(train, test)["most_frequent"]
    assert task.prediction_cells(TARGETS[0], short[0])["predicted"] == "a dog"


# Review and serving.


def test_an_answer_has_the_attention_of_each_word_to_each_real_frame():
    output = outputs_of(["a dog"], attention=[0.25, 0.75, 0, 0])[0]
    answer = TASK.answer(output, top_k=0)
    assert answer["caption"] == "a dog"
    assert answer["log_probability"] == pytest.approx(3 * np.log(0.5))
    assert [word["word"] for word in answer["words"]] == ["a", "dog"]
    for word in answer["words"]:
        assert word["log_probability"] == pytest.approx(np.log(0.5))
        assert word["attention"] == [0.25, 0.75]
    assert answer.keys() == TASK.answer_types.keys()
    assert TASK.answer_line(answer, shown=3) == ["a dog", "log-probability -2.08"]
    assert TASK.answer_cells(answer)["predicted"] == "a dog"
    task, outputs = Caption.outputs_from_answers([answer], TARGETS[:1])
    np.testing.assert_allclose(task.convert(outputs, TASK), output[None, :2])


def test_an_empty_caption_is_an_answer():
    answer = TASK.answer(outputs_of([""], attention=[1, 0])[0], top_k=0)
    assert (answer["caption"], answer["words"]) == ("", [])
    assert TASK.answer_line(answer, shown=3)[0] == "no word"


def test_the_explained_output_is_the_log_probability_of_the_caption():
    for attention in (None, [0.5, 0.5]):
        outputs = outputs_of(PREDICTED, attention=attention)
        index = TASK.explained_outputs(outputs)
        values = np.take_along_axis(outputs.sum(axis=1), index[:, None], axis=1)[:, 0]
        expected = [np.log(0.5) * (len(text.split()) + 1) for text in PREDICTED]
        assert values == pytest.approx(expected)


def test_tables_show_the_worst_and_the_best_captions():
    worst, best = TASK.tables(TARGETS, OUTPUTS, RESAMPLING)
    assert worst.rows[0]["predicted"] == "the cat is running"
    assert best.rows[0]["predicted"] == "a man runs"
    assert best.rows[0]["references"] == "a man runs | the man is running"
    (chart,) = TASK.charts(TARGETS, OUTPUTS, ["a.mp4"] * len(TARGETS))
    assert chart.name == TASK.headline_chart
    chart.draw()
    assert targets_of(TASK.type).text(TARGETS[0]) == "a man runs | the man is running"
    (guess,) = TASK.guesses(TARGETS[0], OUTPUTS[0])
    assert (guess.text, guess.is_target) == ("a man runs", True)

"""The result of ``vidpipe tune``: the decision, a table of the trials, a picture."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pipeline.common.bootstrap import MIN_GROUPS
from pipeline.common.charts import NEUTRAL, PALETTE, save_png, style_axes
from pipeline.common.files import write_json
from pipeline.common.pages import words
from pipeline.common.tables import align_columns, count_of, write_table_csv
from pipeline.evaluation.scores import Difference, paired_differences
from pipeline.retraining.held_out import HeldOut
from pipeline.retraining.search_space import SearchSpace, Settings

SETTINGS = "settings"  # user attribute of a trial: values of params.yaml by dotted key
ERROR = "error"  # user attribute of a trial: why its settings cannot be trained
SECONDS = "seconds"  # user attribute of a trial: time of its folds

_SHOWN_TRIALS = 8
_MIN_RANKED = 4  # trials for an importance


@dataclass(frozen=True)
class Comparison:
    """Settings compared with those that were chosen before.

    Attributes:
        name, before: of both, such as ``trial 3`` and ``the present settings``.
        difference: of the objective; B are the settings, A those before.
        confidence: of its interval, higher if the settings are the best of several trials.
    """

    name: str
    before: str
    difference: Difference
    confidence: float
    is_better: bool


@dataclass(frozen=True)
class Decision:
    """The settings to use.

    Attributes:
        chosen: None when the present settings have no result yet, or when they cannot be trained
            and no trial of the default is complete.
        comparisons: in the order in which they were made.
        sentence: for a terminal.
    """

    chosen: Settings | None
    comparisons: tuple[Comparison, ...]
    sentence: str


def has_result(study: optuna.Study, settings: Settings) -> bool:
    """Return whether a trial with these settings is complete, or they cannot be trained."""
    own = _trials_of(study, settings)
    return any(trial.state == TrialState.COMPLETE or ERROR in trial.user_attrs for trial in own)


def _trials_of(study: optuna.Study, settings: Settings) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.user_attrs.get(SETTINGS) == settings]


def decide(
    study: optuna.Study, held_out: HeldOut, references: Sequence[Settings], *, metric: str
) -> Decision:
    """Choose between the present settings, the default and the best trial.

    In this order, each replaces the one chosen before only if it is better by more than chance: the
    interval of the paired difference over resampled groups excludes 0, as for ``vidpipe compare``.
    If the present settings cannot be trained, the default is the first. The best of N proposed
    settings, the pruned ones included, is partly lucky, so its interval has the confidence
    1 - (1 - confidence) / N (Bonferroni; Dunn, Multiple Comparisons Among Means, 1961, JASA 56).

    Args:
        references: the present settings, then the default if it differs.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    settings_of = [trial.user_attrs[SETTINGS] for trial in complete]
    names = ("the present settings", "the default")
    known = [
        (name, settings, 1)
        for name, settings in zip(names, references, strict=False)
        if settings in settings_of
    ]
    if not known or not has_result(study, references[0]):
        return Decision(None, (), _no_choice(study, references))
    (chosen_name, chosen, _), *candidates = known
    best = study.best_trial
    if best.user_attrs[SETTINGS] not in references:
        tried = [trial.user_attrs[SETTINGS] for trial in finished_trials(study) if trial.last_step]
        proposed = [
            settings
            for number, settings in enumerate(tried)
            if settings not in references and settings not in tried[:number]
        ]
        candidates.append((f"trial {best.number}", best.user_attrs[SETTINGS], len(proposed)))
    comparisons = []
    for name, settings, n_tried in candidates:
        confidence = 1 - (1 - held_out.params.evaluate.confidence) / n_tried
        section = held_out.params.evaluate.model_copy(update={"confidence": confidence})
        before, after = held_out.pooled(chosen), held_out.pooled(settings)
        difference = paired_differences(before, after, section, metrics=[metric])[metric]
        sign = 1 if study.direction == StudyDirection.MAXIMIZE else -1
        low = min(sign * difference.low, sign * difference.high)
        has_groups = section.resampling(after.resampling_groups).n_groups >= MIN_GROUPS
        comparisons.append(
            Comparison(name, chosen_name, difference, confidence, low > 0 and has_groups)
        )
        if comparisons[-1].is_better:
            chosen_name, chosen = name, settings
    sentences = [f"Chosen: {chosen_name}."]
    if references[0] not in settings_of:
        sentences.append(f"The present settings cannot be trained: {_error(study, references[0])}.")
    sentences += [_sentence(comparison, metric) for comparison in comparisons]
    if not comparisons:
        sentences.append("No trial has a better score.")
    return Decision(chosen, tuple(comparisons), " ".join(sentences))


def _no_choice(study: optuna.Study, references: Sequence[Settings]) -> str:
    if has_result(study, references[0]):
        return (
            f"There is no choice: the present settings cannot be trained "
            f"({_error(study, references[0])}), and no trial of the defaults of a new checkout is "
            "complete. Other settings are chosen only after a comparison with one of these."
        )
    return (
        "There is no choice yet, because the trial of the present settings is not complete. "
        "Run the command again with more --minutes: it continues after the finished folds."
    )


def _error(study: optuna.Study, settings: Settings) -> str:
    """Return why settings cannot be trained, without a full stop."""
    errors = (trial.user_attrs.get(ERROR) for trial in _trials_of(study, settings))
    return next(str(error).rstrip(".") for error in errors if error)


def _sentence(comparison: Comparison, metric: str) -> str:
    difference = comparison.difference
    verdict = "better" if comparison.is_better else "not better by more than chance"
    name = comparison.name[0].upper() + comparison.name[1:]
    return (
        f"{name} against {comparison.before}: {verdict}, {words(metric)} "
        f"{difference.value_b:.3f} and {difference.value_a:.3f}, difference "
        f"{difference.difference:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] at "
        f"{100 * comparison.confidence:.3g}%."
    )


def changes_text(space: SearchSpace, before: Settings, after: Settings) -> str:
    """Return the choices of ``after`` that differ from ``before`` on one line."""
    old, new = space.labels(before), space.labels(after)
    changed = [f"{name} {new[name]}" for name in new if new[name] != old[name]]
    return ", ".join(changed) or "the present settings"


def trial_lines(study: optuna.Study, space: SearchSpace) -> list[str]:
    """Return the best complete trials as a table, the best first, and a count of all trials."""
    counts = Counter(map(_state, finished_trials(study)))
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    is_maximized = study.direction == StudyDirection.MAXIMIZE
    ranked = sorted(complete, key=lambda trial: trial.values[0], reverse=is_maximized)
    rows = [_cells(trial, space) for trial in ranked[:_SHOWN_TRIALS]]
    shown = [
        {name: cell for name, cell in row.items() if name not in ("state", "folds", "error")}
        for row in rows
    ]
    table = [list(shown[0]), *(list(row.values()) for row in shown)] if shown else []
    return [
        *(align_columns(table, ">>>" + "<" * len(space.dimensions)) if table else []),
        f"{count_of(len(complete), 'complete trial')}, {counts['pruned']} pruned, "
        f"{counts['not trained']} not trained, in study {study.study_name}",
    ]


def write_report(
    folder: Path, study: optuna.Study, space: SearchSpace, decision: Decision, *, metric: str
) -> list[Path]:
    """Write trials.csv, summary.json and, if there are finished trials, search.png."""
    trials = finished_trials(study)
    files = [folder / "trials.csv", folder / "summary.json"]
    columns = [
        "trial",
        "state",
        "folds",
        "score",
        "seconds",
        *(one.name for one in space.dimensions),
        "error",
    ]
    write_table_csv(files[0], columns, [_cells(trial, space) for trial in trials])
    write_json(
        files[1],
        {
            "study": study.study_name,
            "metric": metric,
            "trials": len(trials),
            "chosen": decision.chosen,
            "sentence": decision.sentence,
            "comparisons": [asdict(comparison) for comparison in decision.comparisons],
            "importance": importances(study, space),
        },
    )
    picture = folder / "search.png"
    picture.unlink(missing_ok=True)
    if any(trial.intermediate_values for trial in trials):
        save_png(draw_search(study, space, metric), picture)
        files.append(picture)
    return files


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the complete and the pruned trials, in their order."""
    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def _state(trial: FrozenTrial) -> str:
    """Return ``complete``, ``pruned`` or ``not trained``, which is pruned with an error."""
    return "not trained" if ERROR in trial.user_attrs else trial.state.name.lower()


def importances(study: optuna.Study, space: SearchSpace) -> dict[str, float]:
    """Return the importance of each dimension for the score of the first fold, sum 1.

    Every trial that was trained has this score, the pruned ones too. The method is fANOVA: the
    share of the variance of the scores that a random forest attributes to a dimension alone.
    Source: Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter
    Importance, 2014, ICML.
    {} with few trials.
    """
    names = [dimension.name for dimension in space.dimensions]
    first_folds = optuna.create_study(direction=study.direction)
    for trial in finished_trials(study):
        score = trial.intermediate_values.get(1, math.nan)
        if set(trial.params) == set(names) and math.isfinite(score):
            first_folds.add_trial(
                optuna.trial.create_trial(
                    params=trial.params, distributions=trial.distributions, value=score
                )
            )
    scores = [trial.value for trial in first_folds.get_trials(deepcopy=False)]
    if len(scores) < _MIN_RANKED or len(set(scores)) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    return optuna.importance.get_param_importances(first_folds, evaluator=evaluator, params=names)


def draw_search(study: optuna.Study, space: SearchSpace, metric: str) -> Figure:
    """Draw the scores of all trials and, with enough trials, the importances."""
    shares = importances(study, space)
    figure = Figure(figsize=(11 if shares else 6, 4.2), layout="constrained")
    panels = figure.subplots(1, 2 if shares else 1, squeeze=False)[0]
    _draw_history(panels[0], study, metric)
    if shares:
        axes = panels[1]
        names = list(shares)[::-1]
        axes.barh(
            [words(name) for name in names], [shares[name] for name in names], color=PALETTE[0]
        )
        axes.set_xlim(0, 1)
        axes.set_xlabel("Importance for the score of the first fold (fANOVA)")
        style_axes(axes)
    return figure


def _draw_history(axes: Axes, study: optuna.Study, metric: str) -> None:
    best_of = max if study.direction == StudyDirection.MAXIMIZE else min
    trials = [trial for trial in finished_trials(study) if trial.intermediate_values]
    for state, label, marker, colour in (
        (TrialState.COMPLETE, "complete", "o", PALETTE[0]),
        (TrialState.PRUNED, "pruned, score of its folds", "x", NEUTRAL),
    ):
        points = [
            (trial.number, trial.intermediate_values[trial.last_step or 1])
            for trial in trials
            if trial.state == state
        ]
        if points:
            axes.scatter(*zip(*points, strict=True), marker=marker, color=colour, label=label)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete:
        values = [trial.values[0] for trial in complete]
        best = [best_of(values[: count + 1]) for count in range(len(values))]
        numbers = [trial.number for trial in complete]
        axes.step(numbers, best, where="post", color=PALETTE[1], label="best so far")
    axes.set_xlabel("Trial")
    axes.set_ylabel(f"Held-out clips: {words(metric)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(frameon=False)
    style_axes(axes)


def _cells(trial: FrozenTrial, space: SearchSpace) -> dict[str, str]:
    """Return the row of a finished trial."""
    step = trial.last_step
    score = "" if step is None else f"{trial.intermediate_values[step]:.4f}"
    return {
        "trial": str(trial.number),
        "state": _state(trial),
        "folds": str(step or 0),
        "score": score,
        "seconds": f"{trial.user_attrs.get(SECONDS, 0.0):.0f}",
        **space.labels(trial.user_attrs[SETTINGS]),
        "error": trial.user_attrs.get(ERROR, ""),
    }

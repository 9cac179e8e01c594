"""``vidpipe tune``: search settings of params.yaml by cross-validation without the test split.

The folds are drawn from the training and validation clips. A trial trains its folds one by one; the
held-out clips of the folds judge it. Optuna's TPE sampler (Bergstra et al., Algorithms for
Hyper-Parameter Optimization, 2011, NeurIPS) proposes the settings of the next trial, and a trial
below the median of the complete ones after the same number of folds is pruned.

Studies and predictions are in eval/tune/. A trial that is interrupted is started again by the next
call, from its first missing fold.
"""

import logging
import math
import statistics
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from pipeline.clips.arrays import ClipArrays
from pipeline.common.errors import PipelineError
from pipeline.common.files import sha256_of_json
from pipeline.common.pages import words
from pipeline.common.params_text import set_values, with_values
from pipeline.common.paths import CLIPS, PARAMS, TUNE
from pipeline.common.tables import count_of, duration
from pipeline.params import Params, load_params
from pipeline.retraining.fold_training import ClipFiles, ClipsReplacedError, ProcessDiedError
from pipeline.retraining.folds import clips_identity, folds_of_clips, weights_identity
from pipeline.retraining.held_out import HeldOut
from pipeline.retraining.search_space import (
    SearchSpace,
    Settings,
    is_valid,
    search_space,
    with_settings,
)
from pipeline.retraining.tune_report import (
    ERROR,
    SECONDS,
    SETTINGS,
    changes_text,
    decide,
    has_result,
    trial_lines,
    write_report,
)
from pipeline.tasks.task import task_class
from pipeline.tracking.buffer import BufferedRun
from pipeline.tracking.results import log_files
from pipeline.tracking.runs import training_run, warned

logger = logging.getLogger(__name__)

SEARCHED = (CLIPS / "train", CLIPS / "val")  # the clips of the search; never the test split
_STUDIES = TUNE / "studies.db"
_PREDICTIONS = TUNE / "predictions"
_RANDOM_TRIALS = 8  # trials of a study before TPE, the present settings and the default included
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Attributes:
        minutes: of this call; a fold that is running is finished.
        trials: finished trials of the study, those of earlier calls included; None: no limit.
    """

    minutes: float
    trials: int | None = None


@dataclass(frozen=True)
class Search:
    """A search for settings.

    Attributes:
        held_out: what judges a trial.
        metric: key of ``Task.resampled_scores``, the objective.
        parent_run: MLflow run above the runs of the trials; None: no runs.
    """

    study: optuna.Study
    space: SearchSpace
    held_out: HeldOut
    metric: str
    parent_run: str | None = None

    def run(self, references: Sequence[Settings], budget: Budget) -> None:
        """Run trials until the budget is over.

        Args:
            references: settings that are tried first and are never pruned.

        Raises:
            ClipsReplacedError: another command replaced the clips.
            ProcessDiedError: the process of a fold of the present settings died.
            PipelineError: no settings can be trained.
        """
        deadline = time.monotonic() + 60 * budget.minutes
        if self._is_over(budget, deadline):
            return
        queue = [*self._fail_interrupted(), *references]
        while not self._is_over(budget, deadline):
            trial = self._next_trial(queue)
            settings = self._settings_of(trial)
            trial.set_user_attr(SETTINGS, settings)
            logger.info(
                "Trial %d: %s", trial.number, changes_text(self.space, references[0], settings)
            )
            if not self._run_trial(trial, settings, deadline, references):
                return

    def _run_trial(
        self,
        trial: optuna.Trial,
        settings: Settings,
        deadline: float,
        references: Sequence[Settings],
    ) -> bool:
        """Train the folds of a trial; return False if the time is over before the last one."""
        n_folds = len(self.held_out.folds)
        with self._trial_run(trial.number, settings) as run:
            for index in range(n_folds):
                if time.monotonic() >= deadline:
                    logger.info(
                        "The time is over: trial %d continues in the next call.", trial.number
                    )
                    return False
                started = time.monotonic()
                try:
                    score = self._score_after_fold(settings, index)
                except ClipsReplacedError:
                    raise
                except PipelineError as error:
                    if isinstance(error, ProcessDiedError) and settings == references[0]:
                        raise  # the next call tries them again
                    self._give_up(trial, error)
                    return True
                seconds = time.monotonic() - started
                trial.report(score, step=index + 1)
                trial.set_user_attr(SECONDS, trial.user_attrs.get(SECONDS, 0.0) + seconds)
                self._log_progress(index, score, seconds, deadline)
                if run:
                    run.log_metrics({f"crossval/{self.metric}": score}, step=index + 1)
                can_prune = settings not in references and index + 1 < n_folds
                if can_prune and self._is_below_median(score, step=index + 1):
                    self.study.tell(trial, state=TrialState.PRUNED)
                    logger.info("  pruned: worse than the median of the complete trials")
                    return True
        self.study.tell(trial, score)
        return True

    def _settings_of(self, trial: optuna.Trial) -> Settings:
        """Return the settings with which a trial was enqueued, or else new ones."""
        enqueued: Settings | None = trial.user_attrs.get(SETTINGS)
        if enqueued is None or self.space.trial_params(enqueued):
            return self.space.suggest(trial)  # for an enqueued trial, these are its own
        return enqueued  # outside the space: the sampler does not learn from them

    def _score_after_fold(self, settings: Settings, index: int) -> float:
        score = self.held_out.score(settings, self.metric, n_folds=index + 1)
        if math.isnan(score):
            raise PipelineError(f"{words(self.metric)} of the held-out clips is undefined")
        return score

    def _is_below_median(self, score: float, *, step: int) -> bool:
        """Return whether a score is worse than the median of complete trials after ``step`` folds.

        Optuna's MedianPruner compares the best score of a trial over all its steps: a fold of easy
        videos would protect it.
        """
        complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        scores = [trial.intermediate_values[step] for trial in complete]
        if not scores:
            return False
        median = statistics.median(scores)
        is_maximized = self.study.direction == StudyDirection.MAXIMIZE
        return score < median if is_maximized else score > median

    def _log_progress(self, index: int, score: float, seconds: float, deadline: float) -> None:
        left = max(0.0, deadline - time.monotonic())
        enough = f", enough for {count_of(int(left / seconds), 'fold')} like this one"
        logger.info(
            "  fold %d of %d in %.0f s: %s %.3f; %s left%s",
            index + 1,
            len(self.held_out.folds),
            seconds,
            words(self.metric),
            score,
            duration(left),
            enough if seconds > 1 else "",  # an earlier trial has trained this fold
        )

    def _give_up(self, trial: optuna.Trial, error: PipelineError) -> None:
        """Record that the settings of a trial cannot be trained; the sampler avoids them."""
        logger.warning("  not trained: %s", error)
        trial.set_user_attr(ERROR, str(error))
        self.study.tell(trial, state=TrialState.PRUNED)
        finished = self.study.get_trials(deepcopy=False, states=_FINISHED)
        if len(finished) > 1 and all(ERROR in each.user_attrs for each in finished):
            raise error

    def _is_over(self, budget: Budget, deadline: float) -> bool:
        n_finished = len(self.study.get_trials(deepcopy=False, states=_FINISHED))
        has_all_trials = budget.trials is not None and n_finished >= budget.trials
        return has_all_trials or time.monotonic() >= deadline

    def _fail_interrupted(self) -> list[Settings]:
        """Fail the trial of a killed call, or of one whose time was over; return its settings."""
        interrupted = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in interrupted:
            logger.info("Trial %d was interrupted: it is tried again.", trial.number)
            self.study.tell(trial.number, state=TrialState.FAIL)
        return [t.user_attrs[SETTINGS] for t in interrupted if SETTINGS in t.user_attrs]

    def _next_trial(self, queue: list[Settings]) -> optuna.Trial:
        """Return a trial of the first settings of the queue without a result, or a new one."""
        while queue:
            settings = queue.pop(0)
            if not has_result(self.study, settings):
                params = self.space.trial_params(settings)
                self.study.enqueue_trial(params, user_attrs={SETTINGS: settings})
                break
        return self.study.ask()

    def _trial_run(
        self, number: int, settings: Settings
    ) -> AbstractContextManager[BufferedRun] | AbstractContextManager[None]:
        if self.parent_run is None:
            return nullcontext()
        params = with_settings(self.held_out.params, settings)
        return training_run(
            params={
                **params.model_dump(by_alias=True),
                "tune": {"study": self.study.study_name, "trial": number},
            },
            dataset=params.data.videos,
            name=f"trial {number}",
            parent=self.parent_run,
        )


def tune_settings(
    params: Params, budget: Budget, *, n_folds: int, seed: int, apply: bool
) -> list[str]:
    """Search, write eval/tune/ and log an MLflow run with a nested run for each trial.

    Args:
        n_folds, seed: of the folds.
        apply: write the chosen settings to params.yaml.

    Returns:
        Lines for a terminal.

    Raises:
        PipelineError: there are no clips or too few groups, params.yaml cannot be edited, or no
            settings can be trained.
    """
    clip_files = ClipFiles.now(*SEARCHED)
    clips = clip_files.read()
    folds = folds_of_clips(
        clips, params.task.type, n_folds=n_folds, val_share=params.catalog.val_share, seed=seed
    )
    space = search_space(params, n_clips=min(len(fold.train) for fold in folds))
    present = space.settings_of(params)
    if apply:
        with_values(PARAMS.read_text(encoding="utf-8"), present, where=PARAMS)
    task = task_class(params.task.type)
    metric = task.compared_metrics[0]
    name = study_name(params, space, clips, n_folds=n_folds, seed=seed)
    held_out = HeldOut(params, clip_files, tuple(folds), _PREDICTIONS / name)
    default = space.default_settings()
    references = [present, *([default] if default != present and is_valid(params, default) else [])]
    study = open_study(
        name,
        database=_STUDIES,
        is_minimized=metric in task.lower_is_better,
        seed=params.train.seed,
    )
    with training_run(
        params={
            **params.model_dump(by_alias=True),
            "tune": {"study": name, "folds": n_folds, "seed": seed},
        },
        dataset=params.data.videos,
        name=f"tune, study {name}",
    ) as run:
        assert run.id is not None  # without a store, training_run raises
        Search(study, space, held_out, metric, run.id).run(references, budget)
        decision = decide(study, held_out, references, metric=metric)
        files = write_report(TUNE, study, space, decision, metric=metric)
        with warned(f"MLflow lacks results that are in {TUNE}"):
            log_files(run.id, files)
    lines = [*trial_lines(study, space), "", decision.sentence]
    if decision.chosen in (None, present):
        return lines
    changed = {key: value for key, value in decision.chosen.items() if value != present[key]}
    if not apply:
        options = f"--minutes 0 --folds {n_folds} --seed {seed} --apply"
        return [*lines, f"To write these settings to {PARAMS}: vidpipe tune {options}"]
    set_values(PARAMS, changed)
    load_params()
    return [*lines, f"{PARAMS}: changed {', '.join(changed)}. Train with: vidpipe repro"]


def open_study(name: str, *, database: Path | None, is_minimized: bool, seed: int) -> optuna.Study:
    """Open a study of an SQLite file, or create it; None keeps it in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if database is not None:
        database.parent.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        storage=None if database is None else f"sqlite:///{database}",
        study_name=name,
        direction="minimize" if is_minimized else "maximize",
        load_if_exists=True,
    )
    n_trials = len(study.get_trials(deepcopy=False))
    # A continued study draws other random numbers than its first trials.
    study.sampler = optuna.samplers.TPESampler(
        seed=seed + n_trials, n_startup_trials=_RANDOM_TRIALS
    )
    if n_trials:
        logger.info("Study %s in %s continues after %d trials.", name, database, n_trials)
    else:
        logger.info("Study %s in %s is new.", name, database)
    return study


def study_name(
    params: Params, space: SearchSpace, clips: ClipArrays, *, n_folds: int, seed: int
) -> str:
    """Return a digest of everything but the searched settings that a score depends on."""
    sections = params.model_dump(include={"task", "model", "train"})
    fixed = with_settings(params, space.default_settings()).model_dump(include=set(sections))
    content = [
        fixed,
        [[one.name, one.choices] for one in space.dimensions],
        clips_identity(clips),
        weights_identity(params.model.cnn),
        [n_folds, seed, params.catalog.val_share],
    ]
    return sha256_of_json(content)[:12]

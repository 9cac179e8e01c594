"""The search space of ``vidpipe tune``: the keys of params.yaml that it varies, and their values.

docs/tuning.md has the same table. To search other values, edit ``_DIMENSIONS``.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.common.errors import PipelineError
from pipeline.common.settings import flatten
from pipeline.model.settings import ModelSection, TrainSection, find_contradictions
from pipeline.params import Params

if TYPE_CHECKING:  # the command line must start fast
    from optuna import Trial

Settings = dict[str, Any]  # dotted key of params.yaml -> value


@dataclass(frozen=True)
class Dimension:
    """One choice of the search.

    Attributes:
        name: for tables and charts.
        choices: label -> values of params.yaml by dotted key. All choices set the same keys.
        is_ordered: whether neighbouring choices give similar scores, which the sampler uses.
    """

    name: str
    choices: Mapping[str, Settings]
    is_ordered: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(next(iter(self.choices.values())))

    def label(self, settings: Settings) -> str:
        """Return the label of the choice in ``settings``; for other values, these values."""
        own = {key: settings[key] for key in self.keys}
        for label, values in self.choices.items():
            if values == own:
                return label
        texts = {key.rpartition(".")[2]: _text(value) for key, value in own.items()}
        if len(set(texts.values())) == 1:
            return next(iter(texts.values()))
        return ", ".join(f"{name} {text}" for name, text in texts.items())


def _text(value: Any) -> str:
    """Return a value as a label.

    >>> _text(["frames", "differences"]), _text([16, 32]), _text("auto")
    ('frames + differences', '[16, 32]', 'auto')
    """
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return " + ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _one_key(name: str, key: str, values: Iterable[Any], *, is_ordered: bool = False) -> Dimension:
    return Dimension(name, {_text(value): {key: value} for value in values}, is_ordered)


def _temporal(recurrent: str, summary: str, *, bidirectional: bool = False) -> Settings:
    return {
        "model.temporal.recurrent": recurrent,
        "model.temporal.bidirectional": bidirectional,
        "model.temporal.summary": summary,
    }


_AUGMENTED = ("shift", "brightness", "contrast")

_DIMENSIONS: tuple[Dimension, ...] = (
    _one_key("streams", "model.streams", [["frames", "differences"], ["differences"], ["frames"]]),
    _one_key(
        "filters",
        "model.cnn.filters",
        [[8, 16, 16, 16], [16, 32, 32, 32], [32, 64, 64, 64]],
        is_ordered=True,
    ),
    _one_key("pooling", "model.cnn.pooling", ["flatten", "average"]),
    Dimension(
        "temporal",
        {
            "lstm": _temporal("lstm", "last"),
            "bidirectional lstm": _temporal("lstm", "last", bidirectional=True),
            "lstm + attention": _temporal("lstm", "attention"),
            "gru": _temporal("gru", "last"),
            "mean": _temporal("none", "mean"),
        },
    ),
    _one_key("dropout", "model.dropout", [0.0, 0.2, 0.4], is_ordered=True),
    _one_key(
        "learning_rate", "train.learning_rate", [0.0005, 0.001, 0.002, 0.004], is_ordered=True
    ),
    Dimension(
        "augmentation",
        {
            json.dumps(strength): {f"train.augmentation.{name}": strength for name in _AUGMENTED}
            for strength in (0.0, 0.1, 0.2, 0.3)
        },
        is_ordered=True,
    ),
)
_STEPS = (400, 800, 1600)
_EPOCHS = (12, "auto", 48)


@dataclass(frozen=True)
class SearchSpace:
    """The dimensions that fit the other settings of a params.yaml."""

    dimensions: tuple[Dimension, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for dimension in self.dimensions for key in dimension.keys)

    def suggest(self, trial: "Trial") -> Settings:
        """Return the settings that the sampler of the study proposes."""
        settings: Settings = {}
        for dimension in self.dimensions:
            labels = list(dimension.choices)
            if dimension.is_ordered:
                label = labels[trial.suggest_int(dimension.name, 0, len(labels) - 1)]
            else:
                label = trial.suggest_categorical(dimension.name, labels)
            settings |= dimension.choices[label]
        return settings

    def trial_params(self, settings: Settings) -> dict[str, Any]:
        """Return what ``suggest`` would have to draw; {} if ``settings`` are outside the space."""
        params: dict[str, Any] = {}
        for dimension in self.dimensions:
            labels, label = list(dimension.choices), dimension.label(settings)
            if label not in labels:
                return {}
            params[dimension.name] = labels.index(label) if dimension.is_ordered else label
        return params

    def labels(self, settings: Settings) -> dict[str, str]:
        """Return the choice of each dimension as text."""
        return {one.name: one.label(settings) for one in self.dimensions}

    def settings_of(self, params: Params) -> Settings:
        """Return the values of ``params`` for the keys of this space."""
        return self._of_sections(params.model, params.train)

    def default_settings(self) -> Settings:
        """Return the default values of these keys, those of a new checkout."""
        return self._of_sections(ModelSection(), TrainSection())

    def _of_sections(self, model: ModelSection, train: TrainSection) -> Settings:
        flat = flatten({"model": model.model_dump(), "train": train.model_dump()})
        return {key: flat[key] for key in self.keys}


def search_space(params: Params, *, n_clips: int) -> SearchSpace:
    """Return the space without choices that contradict the settings that stay as they are.

    A dimension with one choice left is dropped: its keys stay as they are, too. So is one that
    changes no model.

    Args:
        n_clips: number of training clips of the smallest fold.

    Raises:
        PipelineError: no combination is valid.
    """
    cnn, train = params.model.cnn, params.train
    unused = set()
    # small_cnn alone reads model.cnn.filters, and a file of weights has its own.
    if cnn.backbone != "small_cnn" or cnn.weights != "none":
        unused.add("filters")
    if cnn.trainable == "none" and train.cache_features:
        unused.add("augmentation")
    dimensions = [one for one in _DIMENSIONS if one.name not in unused]
    length = _length_of_training(params, n_clips)
    if any(is_valid(params, choice) for choice in length.choices.values()):
        dimensions.append(length)
    combinations = itertools.product(*(one.choices.values() for one in reversed(dimensions)))
    merged = ({key: value[key] for value in each for key in value} for each in combinations)
    valid = next((each for each in merged if is_valid(params, each)), None)
    if valid is None:
        messages = _contradictions(params, SearchSpace(tuple(dimensions)).default_settings())
        raise PipelineError(
            f"params.yaml: no settings of the search are valid. {messages[0]}, or search other "
            "values: pipeline/retraining/search_space.py."
        )
    fitting = (
        replace(
            dimension,
            choices={
                label: values
                for label, values in dimension.choices.items()
                if is_valid(params, {**valid, **values})
            },
        )
        for dimension in dimensions
    )
    return SearchSpace(tuple(one for one in fitting if len(one.choices) > 1))


def _length_of_training(params: Params, n_clips: int) -> Dimension:
    """Return the choices of ``train.steps``, or of ``train.epochs`` if steps make no difference.

    A large set is trained for the fewest epochs of ``auto``, whatever ``train.steps`` are.
    """
    steps_of: dict[int, int] = {}  # by epochs; the default stays among equal ones
    default = TrainSection().steps
    for steps in sorted(_STEPS, key=lambda steps: steps == default):  # the default is the last
        train = params.train.model_copy(update={"epochs": "auto", "steps": steps})
        steps_of[train.n_epochs(n_clips)] = steps
    if len(steps_of) == 1:
        return _one_key("epochs", "train.epochs", _EPOCHS, is_ordered=True)
    choices = {
        str(steps): {"train.epochs": "auto", "train.steps": steps}
        for steps in sorted(steps_of.values())
    }
    return Dimension("steps", choices, is_ordered=True)


def with_settings(params: Params, settings: Settings) -> Params:
    """Return ``params`` with other values of the sections ``model`` and ``train``."""
    content = params.model_dump(include={"model", "train"})
    for key, value in settings.items():
        *outer, last = key.split(".")
        section = content
        for part in outer:
            section = section[part]
        section[last] = value
    return params.model_copy(
        update={
            "model": ModelSection.model_validate(content["model"]),
            "train": TrainSection.model_validate(content["train"]),
        }
    )


def is_valid(params: Params, settings: Settings) -> bool:
    """Return whether ``settings`` do not contradict each other or the rest of ``params``."""
    return not _contradictions(params, settings)


def _contradictions(params: Params, settings: Settings) -> list[str]:
    changed = with_settings(params, settings)
    return find_contradictions(changed.extract, changed.model, changed.train)

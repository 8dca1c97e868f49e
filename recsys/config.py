"""Job configuration: a TOML file, checked whole before any work starts.

Every key is known or an error that names the nearest; every value has a type; nothing is evaluated as code.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from recsys import datasets, splits
from recsys.datasets import NAMES
from recsys.drift import Limits
from recsys.errors import ConfigError, did_you_mean
from recsys.interactions import Duplicates, Interactions
from recsys.metrics import of
from recsys.models import Recommender, model_class
from recsys.promotion import Rule
from recsys.splits import Split

SEEDS = 2**32
"""Seeds are below this, as numpy's legacy generator asks."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DataConfig(_Section):
    """Which interactions to read, and what to keep of them."""

    name: str = "synthetic"
    """A known data set (see data/README.md), or any name together with `file`."""
    file: str | None = None
    """A file or folder of your own, in any layout that `recsys.datasets.read` knows, relative to the working folder."""
    user: str | None = None
    """Column of user ids in your own file."""
    item: str | None = None
    """Column of item ids."""
    rating: str | None = None
    """Column of values."""
    timestamp: str | None = None
    """Column of times."""
    duplicates: Duplicates = "error"
    """Policy for several rows of one user and item."""
    min_rating: float | None = None
    """Keep interactions of at least this value."""
    min_user: int = 0
    """Keep users with at least this many interactions."""
    min_item: int = 0
    """Keep items with at least this many."""
    binary: bool = False
    """Give every interaction the value 1."""
    users: int | None = None
    """Size of the synthetic data set."""
    items: int | None = None
    """Size of the synthetic data set."""
    interactions: int | None = None
    """Size of the synthetic data set."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the synthetic data set."""

    def load(self, keep: str | Iterable[str] = (), root: Path | None = None) -> Interactions:
        """Read, filter and binarise.

        Args:
            keep: further columns to carry along, such as a published split.
            root: folder whose `data/raw` holds the data sets by name, after `$RECSYS_DATA`; the working folder by
                default.
        """
        return self.training_data(self.read(keep, root))

    def histories(self, root: Path | None = None) -> tuple[Interactions, Interactions | None]:
        """Return what to recommend from: what a model reads, and all that its users have seen.

        The first is `load` without the filters by count, which choose what to train on. The second, without the filter
        by value either, holds what users saw and rated too low to be read; None where nothing is filtered by value.
        """
        return self.histories_of(self.read((), root))

    def training_data(self, raw: Interactions) -> Interactions:
        """Return what `read` gave, filtered and binarized for training."""
        return self._prepared(raw, self.min_user, self.min_item)

    def histories_of(self, raw: Interactions) -> tuple[Interactions, Interactions | None]:
        """Return `histories` of what `read` gave."""
        return self._prepared(raw), None if self.min_rating is None else raw

    def _prepared(self, data: Interactions, min_user: int = 0, min_item: int = 0) -> Interactions:
        data = data.filter(min_rating=self.min_rating, min_user=min_user, min_item=min_item)
        return data.binarized() if self.binary else data

    def read(self, keep: str | Iterable[str] = (), root: Path | None = None) -> Interactions:
        """Read the data as they are, before any filter; arguments as in `load`."""
        if self.name == "synthetic" and self.file is None:
            sizes = {k: v for k in ("users", "items", "interactions") if (v := getattr(self, k)) is not None}
            return datasets.synthetic(**sizes, seed=self.seed)
        names = ("user", "item", "rating", "timestamp")
        columns = {k: v for k in names if (v := getattr(self, k)) is not None}
        kept = (keep,) if isinstance(keep, str) else tuple(keep)
        options = {**columns, "duplicates": self.duplicates, "keep": kept}
        if self.file:
            return datasets.read(self.file, **options)
        return datasets.load(self.name, root=root, **options)


class SplitConfig(_Section):
    """How to hold out validation and test parts; each kind takes the options of the function of its name."""

    kind: Literal["hold_out_users", "hold_out_ratings", "leave_last_out", "by_time", "given"] = "hold_out_users"
    """New users; random entries; the last of each user; the latest of all; or what a column marks."""
    column: str | None = None
    """Column of a `given` split: it marks the part of each row."""
    test: float | int | str | None = None
    """Share of the entries, or the column's value on test entries of a `given` split."""
    validation: float | int | str | None = None
    """The same for the validation part."""
    validation_fraction: float | None = None
    """Share of the training entries for validation, where a `given` column marks none."""
    n_users: int | float | None = None
    """Held-out users per part: a count, or a share below 1."""
    target_fraction: float | None = None
    """Share of a held-out user's items to predict."""
    min_items: int | None = None
    """Held-out users with fewer items have no target."""
    stable: bool | None = None
    """Hold out users by their id, so that they stay held out when data are added."""
    seed: int | None = Field(default=None, ge=0, lt=SEEDS)
    """Seed of the draw."""
    temporal: bool | None = None
    """The `given` column cuts by time: refuse entries from the future."""

    def split(self, data: Interactions) -> Split:
        """Cut the data."""
        self.check()
        cut: Split = self._function(data, **self._options())
        return cut

    def repeat(self, number: int) -> SplitConfig:
        """Return the split of a repeat: `number` is added to the seed, where the kind has one."""
        parameters = signature(self._function).parameters
        if "seed" not in parameters:
            return self
        first = parameters["seed"].default if self.seed is None else self.seed
        return self.model_copy(update={"seed": first + number})

    def check(self) -> None:
        """Refuse what can be refused without data.

        Raises:
            ConfigError: an option that the kind does not take, or needs and lacks, or a value of the wrong type.
        """
        takes = set(signature(self._function).parameters) - {"data"}
        for name, value in self._options().items():
            if name not in takes:
                raise ConfigError(f"split.kind = {self.kind!r} takes no {name!r}; it takes {', '.join(sorted(takes))}")
            if isinstance(value, str) and self.kind != "given":
                raise ConfigError(f"split.{name} is a share of the entries for {self.kind!r}, got {value!r}")
        if self.kind == "given" and self.column is None:
            raise ConfigError("split.kind = 'given' needs split.column, the name of the column that marks the parts")

    @property
    def _function(self) -> Any:
        return getattr(splits, self.kind)  # one of the five names of the Literal

    def _options(self) -> dict[str, Any]:
        return self.model_dump(exclude={"kind"}, exclude_none=True)


class TrainConfig(_Section):
    """What chooses the weights, and how often to repeat."""

    metric: str = "ndcg@10"
    """Validation metric that chooses the best epoch and stops early."""
    validate_epochs: bool = True
    """Measure every epoch; false keeps the last weights and measures once."""
    refit: bool = False
    """Fit again on training and validation entries before the test: as many epochs as were best on validation, or all
    of them under a cosine schedule, which ends where its learning rate does."""
    repeats: int = Field(default=1, ge=1)
    """Train with this many seeds of model and split, and report mean and standard deviation."""


class EvaluateConfig(_Section):
    """What to measure on the test part."""

    metrics: tuple[str, ...] | None = None
    """Names such as `ndcg@10` or `rmse`; by default the ranking metrics of `recsys.evaluation.DEFAULT`."""
    min_relevance: float | None = None
    """Held-out entries of at least this value count as relevant."""


class TrackConfig(_Section):
    """Where the run goes in MLflow."""

    experiment: str = Field(default="recsys", min_length=1)
    """MLflow's experiment that the run belongs to."""
    run_name: str | None = None
    """By default the model's name."""
    register_as: str | None = Field(default=None, alias="register")
    """Name in the model registry; by default the model is logged and not registered."""
    system_metrics: bool = False
    """Record the load of the machine with every epoch (needs psutil)."""


class Range(_Section):
    """Numbers from `low` to `high`, whole ones where both ends are."""

    low: int | float
    high: int | float
    log: bool = False
    """Draw the logarithm evenly."""
    step: int | float | None = None
    """Distance between the values; any value by default."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low must lie below high, got {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithm needs low above 0, got {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step exclude each other")
        return self

    @property
    def whole(self) -> bool:
        """Whether only whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int)


class TuneConfig(_Section):
    """The search for hyperparameters that `recsys tune` and `recsys compare` make on the validation part."""

    trials: int = Field(default=20, ge=1)
    """Settings to try."""
    minutes: float | None = Field(default=None, gt=0)
    """Time after which no further trial begins, over all sittings; by default there is no limit."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe` learns from the trials (Bergstra et al. 2011), `random` does not."""
    prune: bool = True
    """Stop a trial whose validation curve lies below the median of the others at the same epoch."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the sampler."""
    space: dict[str, Range | list[Any]] = {}
    """Values of each hyperparameter: a list of choices, or `{low = …, high = …, log = true}`."""

    def bounds(self) -> list[dict[str, Any]]:
        """Return settings that between them take every choice and every end of a range."""
        ends = {name: [v.low, v.high] if isinstance(v, Range) else v for name, v in self.space.items()}
        first = {name: values[0] for name, values in ends.items() if values}
        return [{**first, name: value} for name, values in ends.items() for value in values]


class PromoteConfig(_Section):
    """What a challenger must show to take the champion's place; see `recsys.promotion.Rule`."""

    metric: str | None = None
    """The metric that decides; by default `train.metric`."""
    minimum_gain: float = 0.01
    """Share of the champion's value by which the challenger must be better for certain."""
    confidence: float = 0.95
    guards: dict[str, float] | None = None
    """Metrics that may not fall by more than a share, such as `{"coverage@10" = 0.5}`."""
    slowdown: float | None = 5.0
    """How many times the champion's scoring time is allowed."""

    def rule(self, metric: str) -> Rule:
        """Return the rule; `metric` decides where none is named."""
        return Rule(**self.model_dump()).for_metric(metric)


class DriftConfig(_Section):
    """Where drift becomes a warning; see `recsys.drift.Limits`."""

    new_users: float = 0.3
    new_items: float = 0.1
    popularity: float = 0.2
    overlap: float = 0.3
    scores: float = 0.2

    def limits(self) -> Limits:
        """Return the limits."""
        return Limits(**self.model_dump())


class JobConfig(_Section):
    """A whole training job."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    model: dict[str, Any] = {"name": "MultVAE"}
    """`name` of the class, and its hyperparameters."""
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    track: TrackConfig = TrackConfig()
    promote: PromoteConfig = PromoteConfig()
    drift: DriftConfig = DriftConfig()
    tune: TuneConfig | None = None
    """What to search; `recsys train` does not read it."""

    def load_data(self, root: Path | None = None) -> Interactions:
        """Read the data with the columns that the split needs; `root` as in `DataConfig.load`."""
        return self.data.load(self.split.column or (), root)

    def new_model(self, **overrides: Any) -> Recommender:
        """Return the model, not fitted."""
        params = {k: v for k, v in self.model.items() if k != "name"}
        return model_class(self.model["name"])(**{**params, **overrides})

    def with_model(self, **params: Any) -> JobConfig:
        """Return the job with other hyperparameters of its model, checked.

        Raises:
            ConfigError: a hyperparameter that the model does not have, or a value that it cannot take.
        """
        model = _check_model({**self.model, **params}, "[tune.space]")
        changed = self.model_copy(update={"model": model})
        _check_hyperparameters(changed.new_model())
        return changed

    def repeat(self, number: int) -> JobConfig:
        """Return the job of one repeat with the seeds it uses written out, so that it can be evaluated by itself.

        The seeds of split and model, where they have one, are those of the first repeat plus `number`.
        """
        model = dict(self.model)
        defaults = {f.name: f.default for f in fields(model_class(model["name"]))}
        first = model.get("seed", defaults.get("seed"))
        if first is not None:
            model["seed"] = first + number
        once = self.train.model_copy(update={"repeats": 1})
        return self.model_copy(update={"split": self.split.repeat(number), "model": model, "train": once})

    def check(self) -> None:
        """Refuse before any work what the parts of the configuration say against each other.

        Raises:
            ConfigError: an unknown data set or metric, an option that the split does not take, a hyperparameter out of
                range, errors of ratings from a model that predicts none, a refit without validation entries of the
                training users, or a name that the registry refuses.
        """
        if self.data.file is None and self.data.name not in NAMES:
            raise ConfigError(f"unknown data set {self.data.name!r}{did_you_mean(self.data.name, NAMES)}")
        self.split.check()
        if self.track.system_metrics and find_spec("psutil") is None:
            raise ConfigError("track.system_metrics needs psutil: pip install psutil, or set it to false")
        model = self.new_model()
        _check_hyperparameters(model)
        check_metrics(model, (self.train.metric, *(self.evaluate.metrics or ())))
        if self.train.refit and (self.split.kind == "hold_out_users" or self.split.validation == 0):
            raise ConfigError(
                "train.refit adds the validation entries of the training users, and this split has none; "
                "set train.refit = false, or choose another split"
            )
        self.drift.limits()
        rule = self.promote.rule(self.train.metric)
        check_metrics(model, rule.metrics)
        for searched, values in (self.tune.space if self.tune else {}).items():
            if not values:
                raise ConfigError(f"tune.space.{searched} has no choices")
        for setting in self.tune.bounds() if self.tune else ():
            self.with_model(**setting)
        name = self.track.register_as
        if name is not None and (not name.strip() or set(name) & set("/:") or name in (".", "..")):
            raise ConfigError(f"track.register is a name without '/' and ':', got {name!r}")

    def search(self) -> TuneConfig:
        """Return the settings of the search for hyperparameters.

        Raises:
            ConfigError: there is no search space.
        """
        if self.tune is None or not self.tune.space:
            raise ConfigError(
                "there is nothing to tune: name the hyperparameters and their values under [tune.space], for instance "
                "learning_rate = {low = 1e-4, high = 1e-2, log = true}"
            )
        return self.tune

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values, without what was left at None."""
        values: dict[str, Any] = self.model_dump(mode="json", exclude_none=True, by_alias=True)
        return values


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> JobConfig:
    """Read a TOML file and apply `section.key=value` overrides.

    Raises:
        ConfigError: no such file, not TOML, an unknown key (the message names the nearest), or a value out of range.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no configuration file {file}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not valid TOML: {error}") from None
    given = list(overrides)
    for override in given:
        _set(values, override)
    return check_config(values, " ".join([str(file), *(f"--set {override}" for override in given)]))


def load_configs(paths: Iterable[str | Path], overrides: Iterable[str] = ()) -> dict[str, JobConfig]:
    """Read several files, named by `track.run_name` or the model, and by the file where those repeat.

    Raises:
        ConfigError: as `load_config`, or a file twice.
    """
    files = [Path(path) for path in paths]
    overrides = list(overrides)
    configs = [load_config(file, overrides) for file in files]
    names = [config.track.run_name or config.model["name"] for config in configs]
    names = [file.stem if names.count(name) > 1 else name for file, name in zip(files, names, strict=True)]
    for name in names:
        if names.count(name) > 1 or set(name) & set("/\\"):
            raise ConfigError(f"several models are called {name!r}, or it is no name of a folder; set track.run_name")
    return dict(zip(names, configs, strict=True))


def check_config(values: Mapping[str, Any], where: str = "the configuration") -> JobConfig:
    """Return the checked configuration of plain values.

    Raises:
        ConfigError: an unknown key, a wrong value, or what `JobConfig.check` refuses.
    """
    try:
        config = JobConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_explain(error, JobConfig, where)) from None
    config = config.model_copy(update={"model": _check_model(config.model, where)})
    try:
        config.check()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return config


def check_metrics(model: Recommender, names: Iterable[str]) -> None:
    """Refuse what cannot be measured of a model.

    Raises:
        ConfigError: an unknown metric, one that a job cannot measure, or an error of ratings for a model that predicts
            none.
    """
    metrics = [of(name) for name in names]
    for metric in metrics:
        if metric.needs_item_vectors:
            raise ConfigError(f"{metric.name} needs vectors of the items: call recsys.evaluate with item_vectors=")
    rated = [metric.name for metric in metrics if metric.rates]
    if not rated:
        return
    if reason := model.why_no_ratings():
        raise ConfigError(
            f"{type(model).__name__} {reason}, so it has no {' or '.join(dict.fromkeys(rated))}; "
            "ask for a metric of its lists, such as 'ndcg@10'"
        )


def _check_hyperparameters(model: Recommender) -> None:
    """Make the checks of `fit` that need no data."""
    model.check_params()
    seed = getattr(model, "seed", None)
    if isinstance(seed, int) and not 0 <= seed < SEEDS:
        raise ConfigError(f"model.seed must lie in 0..{SEEDS - 1}, got {seed}")


def _check_model(section: Mapping[str, Any], where: str) -> dict[str, Any]:
    if "name" not in section:
        raise ConfigError(f"{where}: [model] needs a name, such as name = 'MultVAE'")
    try:
        cls = model_class(str(section["name"]))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    hints = get_type_hints(cls)
    schema: Any = create_model(  # type: ignore[call-overload]
        cls.__name__,
        __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=()),
        **{f.name: (hints[f.name], f.default) for f in fields(cls)},
    )
    params = {key: value for key, value in section.items() if key != "name"}
    try:
        checked = schema.model_validate(params)
    except ValidationError as error:
        raise ConfigError(_explain(error, schema, f"{where}: [model] {cls.__name__}")) from None
    return {"name": cls.__name__, **{key: getattr(checked, key) for key in params}}


def _set(values: dict[str, Any], override: str) -> None:
    """Apply `a.b=value` in place; the value is read as TOML, and as text where it is not."""
    key, equals, text = override.partition("=")
    names = key.strip().split(".")
    if not equals or not all(names):
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    target = values
    for name in names[:-1]:
        target = target.setdefault(name, {})
        if not isinstance(target, dict):
            raise ConfigError(f"--set {override}: {name!r} is a value, not a section")
    target[names[-1]] = value


def _fields(owner: Any) -> dict[str, FieldInfo]:
    """Return the fields of a section, optional or not."""
    members = [owner, *get_args(owner)]
    return next((dict(m.model_fields) for m in members if hasattr(m, "model_fields")), {})


def _explain(error: ValidationError, schema: type[BaseModel], where: str) -> str:
    """Return one line per mistake, with the nearest known key for unknown ones."""
    lines = []
    for mistake in error.errors():
        location = [str(part) for part in mistake["loc"]]
        if mistake["type"] == "extra_forbidden":
            owner: Any = schema
            for name in location[:-1]:
                # A hyperparameter's range lies under its name, where a list of choices may stand as well.
                field = _fields(owner).get(name)
                owner = Range if field is None else field.annotation
            known = [field.alias or name for name, field in _fields(owner).items()]
            lines.append(f"unknown key {'.'.join(location)!r}{did_you_mean(location[-1], known)}")
        else:
            lines.append(f"{'.'.join(location)} = {mistake['input']!r}: {mistake['msg']}")
    return f"{where}: " + "; ".join(dict.fromkeys(lines))

"""The sections of a configuration: their keys, and the checks between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from recsys.config.data import DataConfig, Section, SplitConfig
from recsys.devices import named_device
from recsys.drift import Limits
from recsys.errors import ConfigError
from recsys.extras import check_installed
from recsys.interactions import Interactions
from recsys.metrics import of
from recsys.models import Recommender, model_class
from recsys.models.spaces import Range, ends, space_of
from recsys.params import Count, Positive, Seed, check
from recsys.promotion import Rule
from recsys.rules import Rules

RESERVED: Final = ("name", "import")
"""Keys of `[model]` that are no hyperparameters."""


class TrainConfig(Section):
    """How weights are chosen, and how often training is repeated."""

    metric: str = "ndcg@10"
    """Validation metric that chooses the best epoch and stops training early."""
    validate_epochs: bool = True
    """Measure after every epoch; false keeps the last weights and measures once."""
    refit: bool = False
    """Fit again on training and validation entries before the test, up to the epoch that was best on validation;
    what is a share of `epochs`, such as the cosine of the learning rate, stays that of all of them."""
    start: str | None = None
    """A fitted model with whose weights training begins, where the model is a network: a folder or an address such as
    `models:/shop@champion`. Rows of its items and users, by their ids, and all layers are taken over; new ones begin
    anew. A closed form with `keep_rows` works in the rows that differ from those of the earlier one. Where the registry
    has no such model yet, training begins anew, with a notice."""
    repeats: Count = 1
    """Train with this many seeds of model and split, and report mean and standard deviation."""


class EvaluateConfig(Section):
    """What to measure on the test part."""

    metrics: tuple[str, ...] | None = None
    """Names such as `ndcg@10` or `rmse`; by default the ranking metrics of `recsys.evaluation.DEFAULT`."""
    min_relevance: float | None = None
    """Held-out entries of at least this value count as relevant."""


class TrackConfig(Section):
    """Where the run is recorded in MLflow."""

    experiment: str = Field(default="recsys", min_length=1)
    """MLflow experiment of the run."""
    run_name: str | None = None
    """Name of the run; by default the model's name."""
    register_as: str | None = Field(default=None, alias="register")
    """Name in the model registry; by default the model is logged and not registered."""
    system_metrics: bool = False
    """Record the load of the machine with every epoch (needs psutil)."""

    def check(self) -> None:
        """Raise a ConfigError if psutil is needed and missing, or if the registry would refuse the name."""
        if self.system_metrics:
            check_installed("track.system_metrics", "psutil")
        name = self.register_as
        if name is not None and (not name.strip() or set(name) & set("/:") or name in (".", "..")):
            raise ConfigError(f"track.register must be a name without '/' and ':', got {name!r}")


class NightlyConfig(Section):
    """What `recsys nightly` puts into its lists; no other job reads it."""

    items: str | None = None
    """A table of items that nobody has met, csv or parquet with the columns of `data.items`: the champion takes them
    into the lists by their features, without a new training ([new-items.md](new-items.md))."""


class TuneConfig(Section):
    """The search for hyperparameters on the validation part, by `recsys tune` and `recsys compare`."""

    trials: Count = 20
    """Number of settings to try."""
    minutes: Positive | None = None
    """Time after which no further trial begins, counted over the ended trials of all runs of a continued search; no
    limit by default."""
    sampler: Literal["tpe", "random"] = "tpe"
    """`tpe` learns from earlier trials (Bergstra et al. 2011), `random` does not."""
    prune: bool = True
    """Stop a trial whose validation metric is below the median of the other trials at the same epoch."""
    seed: Seed = 0
    """Seed of the sampler."""
    start: Literal["configuration", "defaults", "sample"] | None = None
    """The first setting that is tried: that of the configuration, with defaults for what it does not name; the model's
    defaults; or a sample of the space. By default `defaults` in `recsys compare`, where a value that was chosen before
    would be a trial that nobody counts, and `configuration` in `recsys tune`, but `sample` if `space` is given and
    `[model]` does not name all of it. What the space does not hold is sampled."""
    space: dict[str, Range | list[Any]] = Field(default={})
    """Values of each hyperparameter: a list of choices, or `{low = …, high = …, log = true}`; by default what the model
    declares ([models.md](models.md))."""


class JobConfig(Section):
    """The configuration of a training job and what follows it."""

    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    model: dict[str, Any] = Field(default={"name": "MultVAE"})
    """`name` of the class, its hyperparameters, and `import`: modules that register classes of your own."""
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    track: TrackConfig = TrackConfig()
    promote: Rule = Rule()
    drift: Limits = Limits()
    rules: Rules | None = None
    """What `recsys nightly` may write into lists; the report of `recsys train` says what each rule costs."""
    nightly: NightlyConfig = NightlyConfig()
    tune: TuneConfig | None = None
    """The search; `recsys train` does not read it."""

    @model_validator(mode="before")
    @classmethod
    def _split_before(cls, values: Any) -> Any:
        data = values.get("data") if isinstance(values, Mapping) else None
        if isinstance(data, Mapping) and data.get("shards") is not None and values.get("split") is None:
            return {**values, "split": {"kind": "prepared"}}
        return values

    @field_validator("model")
    @classmethod
    def _checked_model(cls, section: dict[str, Any]) -> dict[str, Any]:
        """Return the section with the class's name as it is registered and its hyperparameters as Python values."""
        modules = modules_of(section)
        if "name" not in section:
            raise ConfigError("model.name is needed, such as name = 'MultVAE'")
        try:
            model = model_class(str(section["name"]))
        except ConfigError as error:
            hint = f"; import {', '.join(modules)} first (in a command: --import MODULE)" if modules else ""
            raise ConfigError(f"{error}{hint}") from None
        kept = {"name": model.__name__, **({"import": section["import"]} if modules else {})}
        return {**kept, **check(model, hyperparameters(section))}

    def load_data(self, root: Path | None = None) -> Interactions:
        """Read the data with the column that the split needs; `root` as in `DataConfig.load`."""
        return self.data.load(self.split.column or (), root)

    def new_model(self, **overrides: Any) -> Recommender:
        """Return the model, not fitted."""
        return model_class(self.model["name"])(**{**hyperparameters(self.model), **overrides})

    def with_model(self, **params: Any) -> JobConfig:
        """Return the job with other hyperparameters of its model; ConfigError if the model cannot take them."""
        try:
            changed = self.model_copy(update={"model": self._checked_model({**self.model, **params})})
        except ConfigError as error:
            raise ConfigError(f"[tune.space] {error}") from None
        changed.new_model().check_params()
        return changed

    def repeat(self, number: int) -> JobConfig:
        """Return the job of one repeat with its seeds written out, so that the repeat can be evaluated by itself.

        The seeds of split and model, if they have one, are those of the first repeat plus `number`.
        """
        first = getattr(self.new_model(), "seed", None)
        model = self.model if first is None else {**self.model, "seed": first + number}
        once = self.train.model_copy(update={"repeats": 1})
        return self.model_copy(update={"split": self.split.repeat(number), "model": model, "train": once})

    def check(self, *, is_stored: bool = False) -> None:
        """Check the whole configuration before any work begins.

        Args:
            is_stored: it is that of a saved model, and may hold a `patience` that had nothing to count.

        Raises:
            ConfigError: an invalid key, hyperparameter or metric, or settings that do not go together.
        """
        self.data.check()
        self.split.check()
        self.track.check()
        model = self.new_model()
        model.check_params()
        members = [model, *model.members()]
        for member in members:
            named_device(getattr(member, "device", "auto"))
        check_metrics(model, (self.train.metric, *(self.evaluate.metrics or ())))
        check_metrics(model, self.promote.for_metric(self.train.metric).metrics)
        models = [*members, *(self.with_model(**setting).new_model() for setting in self._bounds())]
        self._check_together()
        if not is_stored:
            if any(getattr(model, "patience", None) is not None for model in models):
                self._check_patience()
            self._check_chosen(model.chosen_on_validation())
        if self.train.repeats > 1:
            last = self.repeat(self.train.repeats - 1)
            last.split.check()
            last.new_model().check_params()

    def _check_together(self) -> None:
        """Raise a ConfigError for sections that contradict each other."""
        if (self.data.shards is None) == (self.split.kind == "prepared"):
            raise ConfigError(
                f"split.kind = {self.split.kind!r}: shards are split already, and only shards are: "
                "leave out [split] with data.shards, and name another kind without"
            )
        if self.train.refit and self.data.shards is not None:
            raise ConfigError(
                "train.refit needs all entries in memory; leave it out with data.shards, or name the table"
            )
        if self.train.refit and (self.split.kind == "hold_out_users" or self.split.without_validation):
            raise ConfigError(
                "train.refit adds the validation entries of the training users, and this split has none; "
                "set train.refit = false, or choose another split"
            )
        least = self.evaluate.min_relevance
        if self.data.binary and least is not None and least > 1:
            raise ConfigError(
                f"evaluate.min_relevance = {least:g} leaves nothing relevant, because data.binary = true makes every "
                "value 1; leave out one of the two, or select by data.min_rating"
            )

    def _check_patience(self) -> None:
        """Raise a ConfigError if no epoch is measured."""
        counts = "model.patience counts epochs without a better validation metric, and"
        if not self.train.validate_epochs:
            raise ConfigError(f"{counts} train.validate_epochs = false measures none; leave out one of the two")
        if self.split.without_validation:
            raise ConfigError(f"{counts} split.validation = 0 leaves nothing to measure; leave out one of the two")

    def _check_chosen(self, name: str) -> None:
        """Raise a ConfigError if the fit has no validation part to choose this hyperparameter on."""
        gone = "split.validation = 0 leaves empty" if self.split.without_validation else ""
        if not self.train.validate_epochs:
            gone = "train.validate_epochs = false keeps from the fit"
        if name and gone:
            raise ConfigError(
                f"{self.model['name']} chooses its {name} on the validation part, which {gone}; "
                f"leave that out, or give model.{name}"
            )

    def check_memory(self, train: Interactions, *, searched: bool = False) -> None:
        """Refuse a model that takes more memory than is free to train on these interactions; a DataError says how much.

        Args:
            searched: check the choices and ends of the search space too.
        """
        self.new_model().check_memory(train.matrix)
        for setting in self._bounds() if searched else ():
            self.with_model(**setting).new_model().check_memory(train.matrix)

    @property
    def space(self) -> dict[str, Range | list[Any]]:
        """What a search tries: `tune.space`, or what the model declares where that is not given."""
        return (self.tune and self.tune.space) or self.declared_space()

    def declared_space(self) -> dict[str, Range | list[Any]]:
        """Return the space that the class of the model declares; empty if there is nothing to search.

        The weight by which a rating model ranks belongs to it if `train.metric` measures lists.
        """
        model = model_class(self.model["name"])
        ranks_with = model.capabilities.ranks_with if of(self.train.metric).rates else None
        return {name: values for name, values in space_of(model).items() if name != ranks_with}

    def search(self) -> TuneConfig:
        """Return the settings of the search with its space; ConfigError if that is empty, or without a validation part.

        Without a section `[tune]` they are those of its defaults.
        """
        if not self.space:
            raise ConfigError(
                f"there is nothing to tune: {self.model['name']} declares no search space; name the hyperparameters "
                "and their values under [tune.space], such as learning_rate = {low = 1e-4, high = 1e-2, log = true}"
            )
        if self.train.start is not None:
            raise ConfigError("train.start gives the weights of one network, and a search tries several; leave it out")
        if self.split.without_validation:
            raise ConfigError("a search chooses on the validation part; set split.validation above 0")
        settings = self.tune or TuneConfig()
        start = settings.start or (None if settings.space else "configuration")
        return settings.model_copy(update={"space": self.space, "start": start})

    def _bounds(self) -> list[dict[str, Any]]:
        """Return settings with each choice and both ends of each range, to check before a search; none without one."""
        if self.tune is None:
            return []
        possible = {name: ends(values) for name, values in self.space.items()}
        if empty := [name for name, values in possible.items() if not values]:
            raise ConfigError(f"tune.space.{empty[0]} has no choices")
        if reserved := [name for name in possible if name in RESERVED]:
            raise ConfigError(f"tune.space.{reserved[0]} is not a hyperparameter")
        first = {name: values[0] for name, values in possible.items()}
        return [{**first, name: value} for name, values in possible.items() for value in values]

    def as_dict(self) -> dict[str, Any]:
        """Return the configuration as JSON values, without keys that are None."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)


def hyperparameters(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters in a `[model]` section."""
    return {name: value for name, value in section.items() if name not in RESERVED}


def modules_of(section: Any) -> list[str]:
    """Return the names under `import` of a `[model]` section; ConfigError if they are not strings."""
    given = section.get("import", []) if isinstance(section, Mapping) else []
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"model.import must be the name of a module or a list of names, got {given!r}")
    return list(names)


def check_metrics(model: Recommender, names: Iterable[str]) -> None:
    """Raise a ConfigError for a metric that is unknown, or that a job cannot measure for this model."""
    metrics = [of(name) for name in names]
    for metric in metrics:
        if metric.needs_item_vectors:
            raise ConfigError(f"{metric.name} needs item vectors, which no job has: recsys.evaluate takes them")
    rated = dict.fromkeys(metric.name for metric in metrics if metric.rates)
    if rated and (reason := model.why_no_ratings()):
        raise ConfigError(
            f"{type(model).__name__} {reason}, so it has no {' or '.join(rated)}; "
            "choose a list metric such as 'ndcg@10'"
        )

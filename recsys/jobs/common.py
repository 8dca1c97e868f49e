"""What several jobs need: models, the data that go with them, and the versions of a registered model."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from recsys.config import DataConfig, JobConfig, check_config
from recsys.config.data import of_everyone
from recsys.datasets import NAMES
from recsys.errors import (
    ConfigError,
    DataError,
    TrackingError,
    TrackingUnavailable,
    UnknownIdError,
    absent,
    did_you_mean,
)
from recsys.evaluation import Evaluation, Ranker, Validation, evaluate
from recsys.files import sha256_of_json
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender, load
from recsys.models.saved import find_bundle
from recsys.models.stored import known_users, number_in, part_of
from recsys.shards import is_shards
from recsys.splits import Part, Split
from recsys.workspace import Workspace, as_path

if TYPE_CHECKING:
    from recsys.tracking import RegisteredModel


def load_model(workspace: Workspace, uri: str) -> tuple[Recommender, str]:
    """Read a model natively, from a folder, `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `runs:/ID/model`.

    Returned with the address that it keeps when the alias moves on, `models:/NAME/VERSION`.

    Raises:
        TrackingError: there is no store, or no such model.
    """
    if not uri.startswith(("models:/", "runs:/")):
        pinned = str(as_path(uri).absolute())
        return load(find_bundle(pinned)), pinned
    from recsys import tracking  # which imports MLflow: seconds that a folder does not cost

    tracking.configure(workspace, create=False)
    pinned = tracking.pin(uri)
    return tracking.load(pinned), pinned


def start_of(workspace: Workspace, job: JobConfig) -> tuple[Recommender | None, str]:
    """Return the model that `train.start` names, and its pinned address.

    None, and no address, where none is named, or where the registry has no such model yet.
    """
    uri = job.train.start
    if uri is None:
        return None, ""
    try:
        model, pinned = load_model(workspace, uri)
    except TrackingUnavailable:
        raise
    except TrackingError as error:
        if not uri.startswith("models:/"):
            raise
        print(f"training begins anew: {error}")
        return None, ""
    print(f"training begins with the weights of {pinned}")
    return model, pinned


def named(ids: IdMap, texts: Sequence[str], what: str, where: str) -> list[Hashable]:
    """Return the ids of the users or items (`what`) that a person typed.

    Args:
        where: what those who are known are, for the message: `in the data`.

    Raises:
        UnknownIdError: some are unknown.
    """
    if len(texts) == 1:
        return [ids.parse(texts[0])]
    codes = ids.codes(texts, on_unknown="mark")
    unknown = [text for text, code in zip(texts, codes, strict=True) if code < 0]
    if unknown:
        shown = [text if len(text) <= 60 else f"{text[:57]}..." for text in unknown[:3]]
        raise UnknownIdError(
            f"{len(unknown)} of the {len(texts)} {what} are not {where}, for instance {shown}; known ids look like "
            f"{list(ids.take(range(min(3, len(ids)))))}"
        )
    return [ids.parse(text) for text in texts]


def config_of(model: Recommender, uri: str) -> JobConfig:
    """Return the configuration that the model was trained with; a ConfigError where it does not say."""
    if not part_of(model.about_, "config"):
        raise ConfigError(f"{uri} does not say how it was trained; name a configuration file or a data set")
    return check_config(model.about_["config"], f"the configuration stored in {uri}")


def section_of(source: str) -> dict[str, str]:
    """Return the key of `[data]` for a file or folder, or for a data set; a ConfigError where it is none of them."""
    if is_shards(as_path(source)):
        return {"shards": source}
    if as_path(source).exists():
        return {"file": source}
    if source in NAMES:
        return {"name": source}
    raise absent(
        ConfigError(f"there is no file or folder {source}, nor a data set of that name{did_you_mean(source, NAMES)}")
    )


def section_for(model: Recommender, uri: str, data: str | None) -> DataConfig:
    """Return how to read the named data set or file as for training, or what the model was trained on."""
    if data is None:
        return config_of(model, uri).data
    stored = {"data": part_of(model.about_, "config", "data")}
    trained = check_config(stored, f"the configuration stored in {uri}").data
    return trained.of(section_of(data))


def split_of(job: JobConfig, data: Interactions) -> Split:
    """Split the data as the job says, and print what the splitter has to say about it."""
    split = job.split.split(data)
    for note in split.notes:
        print(f"split {job.split.kind}: {note}")
    return split


def validation_of(job: JobConfig, split: Split) -> Validation | None:
    """Return what measures a model on the validation part; None without one."""
    if split.validation is None:
        return None
    return Validation(split.validation, job.train.metric, min_relevance=job.evaluate.min_relevance)


def measure(
    workspace: Workspace,
    config: JobConfig,
    model: Ranker,
    split: Split,
    metrics: Sequence[str],
    part: Part | None = None,
) -> Evaluation:
    """Evaluate a model on the test part, or on another part, as the configuration says."""
    return evaluate(
        model,
        split.test if part is None else part,
        metrics,
        min_relevance=config.evaluate.min_relevance,
        popularity=split.train,
        show_progress=workspace.progress,
    )


def fitted_part(model: Recommender, split: Split) -> Interactions:
    """Return the part of a split on which such a model is fitted: with the validation entries if it was refitted."""
    with suppress(DataError):  # this split has no part to refit on
        if part_of(model.about_, "trained_on").get("refit"):
            return split.refit()
    return split.train


def may_have_seen(model: Recommender, split: Split) -> bool:
    """Return whether the model may have been trained on the test targets of the split.

    It was not where its training part was this split's, with or without the validation entries; nor where it was
    trained on none of the test users; nor, if the split cuts by time, on anything as late as the first test entry.
    """
    trained = part_of(model.about_, "trained_on")
    if trained and fitted_part(model, split).fingerprint() == trained.get("fingerprint"):
        return False
    users = known_users(model)
    if users is not None and (users.codes_of(split.test.users, "user") < 0).all():
        return False
    until, first = number_in(trained, "until"), split.first_test_time
    return until is None or first is None or until >= first


@dataclass(frozen=True, eq=False)
class Sources:
    """The data of a job: read once, filtered once, split once, passed on from step to step."""

    job: JobConfig
    """One repeat of a configuration, with its seeds written out."""
    raw: Interactions
    """As read, before any filter."""

    @classmethod
    def read(cls, workspace: Workspace, job: JobConfig) -> Sources:
        """Read the data of a job, with the columns that its split needs."""
        return cls(job, job.data.read(job.split.column or (), workspace.folder))

    @cached_property
    def data(self) -> Interactions:
        """What models are trained and tested on."""
        return self.job.data.training_data(self.raw)

    @cached_property
    def histories(self) -> tuple[Interactions, Interactions | None]:
        """What to recommend from, and all that its users have seen where that is more: see `DataConfig.histories`."""
        given = self.job.data.given
        if self.job.data.shards is not None:
            return self.job.data.histories()  # which refuses them
        if given.get("min_user") or given.get("min_item"):
            return self.job.data.histories_of(self.raw)
        return of_everyone(self.data, None if given.get("min_rating") is None else self.raw)

    @cached_property
    def split(self) -> Split:
        """Training, validation and test part."""
        return split_of(self.job, self.data)

    @cached_property
    def identity(self) -> str:
        """A digest that equal data read in the same way have: what `histories` follow from."""
        return sha256_of_json([self.raw.fingerprint(), self.job.data.model_dump(mode="json")])


class Versions:
    """The versions of a registered model as a job finds them; each is loaded once."""

    def __init__(self, name: str, alias: str, registered: Sequence[RegisteredModel]) -> None:
        self.name, self.alias = name, alias
        self.numbers = [version.version for version in registered]
        """Newest first."""
        self.holder = next((version.version for version in registered if alias in version.aliases), None)
        """The version that holds the alias; None where none does."""
        self._loaded: dict[int, Recommender] = {}

    def uri(self, version: int) -> str:
        """Return the address of a version, which it keeps when the alias moves on."""
        return f"models:/{self.name}/{version}"

    def newest(self) -> int:
        """Return the newest version; a TrackingError where there is none."""
        if not self.numbers:
            raise absent(TrackingError(f"model {self.name!r} has no versions"))
        return self.numbers[0]

    def load(self, version: int) -> Recommender:
        """Return the model of a version; a TrackingError where there is no such version."""
        if version not in self._loaded:
            from recsys import tracking

            self._loaded[version] = tracking.load(self.uri(version))
        return self._loaded[version]

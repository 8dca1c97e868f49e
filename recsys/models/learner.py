"""What every model has before it recommends anything: hyperparameters, capabilities, fitting, a bundle."""

from __future__ import annotations

import copy
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from implicit.recommender_base import RecommenderBase

from recsys import memory
from recsys.artifacts import Bundle, read_bundle, write_bundle
from recsys.devices import free_on, pick_device
from recsys.errors import BundleError, DataError, NotFittedError, TrainingError, UnsupportedError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.mapped import column_counts
from recsys.models.capabilities import REFUSALS, Capabilities
from recsys.models.fallback import readable
from recsys.models.fitting import FitOptions, Validates, relative_weights, training_matrix
from recsys.models.selection import Histories, Indices
from recsys.models.spaces import Space
from recsys.models.stored import Size, Stored, as_json, check_ids, ids_to_keep, number, record_of, users_of
from recsys.params import Parameters, modern
from recsys.sparse import as_csr, row_digests
from recsys.training import Record
from recsys.workspace import as_path

Floats = npt.NDArray[np.float32]


class Learner(Parameters, RecommenderBase):  # type: ignore[misc]
    """What is fitted to a users × items matrix, saved and loaded.

    Hyperparameters are the keyword-only fields of each model's dataclass and are stored as given; `fit` checks them,
    forgets what was learned before, and returns `self`. Everything learned ends in an underscore.
    """

    capabilities: ClassVar[Capabilities]
    """What models of this class can do; what is not declared is refused."""
    search_space: ClassVar[Space] = {}
    """Values of the hyperparameters that a search varies, where a configuration names none (see `models.spaces`)."""

    n_users_: int
    n_items_: int
    users_: IdMap | None
    items_: IdMap | None
    titles_: npt.NDArray[np.object_] | None
    about_: Mapping[str, Any]
    popularity_: Floats
    user_counts_: npt.NDArray[np.int64]
    """(n_users,) entries of each user in training: of a user without any, nothing was learned. All are 1 where a saved
    model does not say, because it never asks or was written before this was kept."""
    user_digests_: npt.NDArray[np.uint64] | None
    """(n_users,) `row_digests` of the training rows, which tell a changed history. None for models that fold nobody in,
    and of bundles of 0.2.0 and earlier, whose models take all histories of their users for those of training."""
    record_: Record

    @abstractmethod
    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record | None:
        """Learn from a checked matrix; return the record of the epochs, None where there are no epochs."""

    @abstractmethod
    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the learned arrays, for the bundle."""

    @abstractmethod
    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        """Set what `_arrays` and `_state` gave.

        Args:
            arrays: by name, as a mapping, or checked as they are read: see `Stored`.
        """

    def _state(self) -> dict[str, Any]:
        """Return learned scalars as JSON values, for the bundle."""
        return {}

    def reads_shards(self) -> bool:
        """Return whether `fit` reads the rows of shards from disk as it needs them, and not all of them into memory."""
        return False

    def chosen_on_validation(self) -> str:
        """Return the hyperparameter that `fit` chooses on a validation part; empty where there is none."""
        return ""

    def _for_refit(self) -> Self:
        """Return the unfitted model of `for_refit`, with what this fit chose on validation as hyperparameters."""
        return type(self)(**self.get_params())

    def _memory(self, matrix: sp.csr_matrix) -> memory.Need | None:
        """Return what a fit takes at its peak, for `n_users_`, `n_items_` and the hyperparameters; None: unknown."""
        return None

    def members(self) -> Sequence[Learner]:
        """Return the models that this one is made of: itself alone, unless it is a blend."""
        return (self,)

    def memory_needed(self, user_items: sp.csr_matrix) -> memory.Need | None:
        """Return an estimate of what a fit to this matrix takes at its peak; None where there is none."""
        probe = copy.copy(self)
        probe.n_users_, probe.n_items_ = user_items.shape
        return probe._memory(user_items)

    def check_memory(self, user_items: sp.csr_matrix) -> None:
        """Refuse a fit that takes more memory than is free; `fit` begins with it, a job of several fits too.

        Raises:
            DataError: it does not fit; the message says how much it takes and what to use instead.
        """
        need = self.memory_needed(user_items)
        if need is not None:
            n_users, n_items = user_items.shape
            what = f"{type(self).__name__} for {n_users:,} users and {n_items:,} items needs"
            available = free_on(pick_device(getattr(self, "device", "cpu")))
            memory.require(need.bytes, what, need.instead, available=available)

    def fit(
        self,
        user_items: Any,
        show_progress: bool = True,
        callback: Callable[[int, float, float | None], Any] | None = None,
        *,
        validation: Validates | None = None,
        on_epoch: Callable[[dict[str, float]], None] | None = None,
        checkpoint: str | Path | None = None,
        user_weights: npt.ArrayLike | None = None,
        start: Any = None,
    ) -> Self:
        """Learn from a users × items matrix.

        Args:
            user_items: `Interactions`, also of shards (their ids are remembered), or a scipy sparse matrix.
            callback: called with (iteration from 0, its seconds, loss) after each epoch, as in `implicit`; models
                without epochs call it once. The loss is None where the model reports none.
            validation: measures each epoch and chooses the weights to keep; models without epochs are measured once.
            on_epoch: called with each epoch's entry of `record_`.
            checkpoint: file from which an interrupted training continues (models that train by epochs only).
            start: a fitted model of the class. Networks begin with its weights (`models.warm_start`), closed forms work
                in the rows that differ from those it has kept (`keep_rows`), to the same result (`models.updating`).
            user_weights: (n_users,) how much each row counts, above 0; only their ratios matter. Linear models weigh
                the squared errors, networks draw the rows of an epoch by them. A refit needs its own.

        Raises:
            DataError: not a sparse matrix, nothing stored, values this model cannot take, or too little memory.
            UnsupportedError: the model cannot weigh its users, or start from another.
            ConfigError: a hyperparameter of the wrong type or out of range.
            TrainingError: the loss, or what was learned, is not finite.
        """
        start = copy.copy(start)  # it may be this model, which is about to forget
        self._forget()
        data = user_items if isinstance(user_items, Interactions) else None
        matrix = training_matrix(data.matrix if data else user_items, on_disk=self.reads_shards())
        if not matrix.nnz:
            raise DataError(f"cannot fit {type(self).__name__} on a matrix of shape {matrix.shape} with nothing stored")
        # Validation uses the model as it grows; a failed fit leaves none of it behind.
        self.n_users_, self.n_items_ = matrix.shape
        self.users_, self.items_ = ids_to_keep(self, data) if data else (None, None)
        self.titles_, self.about_ = data.titles if data else None, {}
        self.popularity_ = (column_counts(matrix) / matrix.shape[0]).astype(np.float32)
        self.user_counts_ = np.diff(matrix.indptr).astype(np.int64)
        # A blend leaves it to its parts, and declares at its class what it can do with any.
        self.user_digests_ = row_digests(matrix) if type(self).capabilities.new_users == "fold-in" else None
        try:
            self.check_params()
            self.check_memory(matrix)
            for given, ability in ((user_weights, "weighs_users"), (start, "starts_from")):
                if given is not None:
                    self._require(ability)
            weights, began = relative_weights(user_weights, self.n_users_), time.perf_counter()
            told = FitOptions(show_progress, callback, validation, on_epoch, checkpoint, weights, start, data)
            record = self._fit(matrix, told)
            self._check_finite(matrix)
            if not isinstance(record, Record | None):
                raise DataError(f"_fit of {type(self).__name__} must return a Record or None, got {record!r}")
            if record is None:
                if callback:
                    callback(0, time.perf_counter() - began, None)
                entry = {"epoch": 1.0, **(validation(self) if validation else {})}
                record = Record([entry], best_epoch=1, metric=validation.metric if validation else None)
                if on_epoch:
                    on_epoch(entry)
        except BaseException:
            self._forget()
            raise
        self.record_ = record
        return self

    def for_refit(self) -> Self:
        """Return the unfitted model to fit to all that is known but for the test, now that validation has chosen.

        It trains as this model did up to the weights that were kept, and needs no validation part:
        `model.for_refit().fit(split.refit())`. It has this model's hyperparameters, but for what the fit resolved.

        Raises:
            NotFittedError: the model is not fitted.
        """
        self._check_fitted()
        return self._for_refit()

    def save(self, file: str | Path, *, metrics: Mapping[str, float] | None = None, about: Any = None) -> None:
        """Write the model as a folder of plain files (see `recsys.artifacts`), whole or not at all.

        Args:
            file: folder to write; `~` is expanded.
            metrics: measured figures to store beside the model.
            about: JSON values that say where the model comes from, such as the job's configuration; `load` gives them
                back as `about_`. Numbers of numpy become numbers of Python here and in `metrics`.

        Raises:
            NotFittedError: the model is not fitted.
            ConfigError: `file` is no path.
            DataError: `metrics` or `about` is no mapping, or JSON cannot hold it.
            BundleError: something else than a saved model is there, or an id cannot be stored.
        """
        self._check_fitted()
        target = as_path(file)
        figures = as_json("metrics", {} if metrics is None else metrics)
        origin = as_json("about", self.about_ if about is None else about)
        write_bundle(self.to_bundle(metrics=figures, about=origin), target)

    def to_bundle(self, **facts: Any) -> Bundle:
        """Return what `save` writes of the fitted model, with further fields of the bundle."""
        state = {"n_users": self.n_users_, "n_items": self.n_items_, "record": vars(self.record_), **self._state()}
        if self.capabilities.reads_counts:
            state["trained_users"] = int(np.count_nonzero(self.user_counts_))
        return Bundle(
            model=type(self).__name__,
            module=type(self).__module__,
            params=self.params(),
            state=state,
            arrays=self.learned_arrays(),
            users=self.users_,
            items=self.items_,
            titles=self.titles_,
            **facts,
        )

    @classmethod
    def load(cls, file: str | Path, *, device: str = "auto") -> Self:
        """Read a saved model of this class, to compute on `device`, whatever it was trained on.

        Raises:
            BundleError: nothing there, damaged, of a newer schema, or of another class (`recsys.load` takes any).
        """
        return cls._from_bundle(read_bundle(as_path(file)), str(file), device)

    @classmethod
    def _from_bundle(cls, bundle: Bundle, where: str, device: str = "auto") -> Self:
        """Return the model that a bundle of version 0.1.0 or later holds; `where` is for messages."""
        if bundle.model != cls.__name__:
            raise BundleError(f"{where} holds a {bundle.model}, not a {cls.__name__}; use recsys.load for any model")
        try:
            params = modern(cls, bundle.params)
            model = cls(**{**params, **({"device": device} if "device" in params else {})})
            model.check_params()
            arrays, state = Stored(bundle.arrays), bundle.state
            model.n_users_, model.n_items_ = number(state, "n_users", Size), number(state, "n_items", Size)
            model.record_ = record_of(state)
            model.users_, model.items_, model.titles_ = bundle.users, bundle.items, bundle.titles
            check_ids(model)
            model.about_ = dict(bundle.about)
            model.popularity_ = arrays.array("popularity", (model.n_items_,), within=(0, 1))
            model.user_counts_, model.user_digests_ = users_of(
                arrays, state, model.n_users_, model.n_items_, folds_in=cls.capabilities.new_users == "fold-in"
            )
            model._restore(arrays, state)
            if arrays.unread and cls._of_package():  # one's own may keep what it does not read
                raise BundleError(f"it has no arrays {', '.join(sorted(arrays.unread))}")
        except Exception as error:  # also what a model's own code raises at what it did not expect
            raise BundleError(f"{where} does not fit this version's {cls.__name__}: {error}") from error
        return model

    def learned_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return all arrays that the model keeps, by their names in a bundle."""
        arrays = {"popularity": self.popularity_, **self._arrays()}
        if self.capabilities.reads_counts:
            arrays["user_counts"] = self.user_counts_
        return arrays if self.user_digests_ is None else {**arrays, "user_digests": self.user_digests_}

    def _check_finite(self, matrix: sp.csr_matrix) -> None:
        """Refuse what was learned from a matrix where some of it is NaN or infinite; one's own model may mean it."""
        arrays = self.learned_arrays().items() if self._of_package() else ()
        # The smallest value is NaN if any is: nothing is allocated.
        ends = {name: (array.min(), array.max()) for name, array in arrays if array.dtype.kind == "f" and array.size}
        wrong = [name for name, values in ends.items() if not np.isfinite(values).all()]
        if wrong:
            raise self._not_finite(f"has learned NaN or infinite values ({', '.join(wrong)})")

    def _not_finite(self, what: str) -> TrainingError:
        knobs = [("lower", "learning_rate"), ("raise", "regularization"), ("raise", "weight_decay")]
        own = [f"{how} {knob} (now {getattr(self, knob)})" for how, knob in knobs if hasattr(self, knob)]
        advice = " or ".join(own) or "look for values of the data that are very large"
        return TrainingError(f"{type(self).__name__} {what}; {advice}")

    @classmethod
    def _of_package(cls) -> bool:
        """Return whether this is a model of the package, whose code its tests know."""
        return cls.__module__.startswith("recsys.")

    def _indexed(self, userid: Indices) -> npt.NDArray[np.bool_]:
        """Return which users are rows of the training matrix, for models that keep what they learned of those."""
        return (userid >= 0) & (userid < self.n_users_) & self.capabilities.scores_known_users

    def _known(self, userid: Indices) -> npt.NDArray[np.bool_]:
        """Return which users are scored from what was learned of them: those of whom training had entries."""
        inside = self._indexed(userid)
        return inside & (self.user_counts_[np.where(inside, userid, 0)] > 0)

    def _scored_as(self, userid: Indices, histories: Histories) -> Indices:
        """Return the indices by which users are scored: -1 for those to fold in because their history has changed.

        A history that says nothing, being empty or of items that no training user has, changes nothing.
        """
        if histories is None or self.user_digests_ is None or not (known := self._known(userid)).any():
            return userid
        read = readable(histories, self.popularity_)
        trained = self.user_digests_[np.where(known, userid, 0)]
        changed = known & (np.diff(read.indptr) > 0) & (row_digests(read) != trained)
        return np.where(changed, -1, userid)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_items_"):
            raise NotFittedError(f"{type(self).__name__} is not fitted; call fit first")

    def _require(self, ability: str) -> None:
        """Refuse what the class does not declare."""
        if not getattr(self.capabilities, ability):
            raise UnsupportedError(f"{type(self).__name__} {REFUSALS[ability]}")

    def _matrix(self, user_items: Any) -> sp.csr_matrix:
        """Return checked histories with the fitted model's columns."""
        self._check_fitted()
        if isinstance(user_items, Interactions):
            user_items = user_items.histories(self.items_) if self.items_ is not None else user_items.matrix
        matrix = as_csr(user_items)
        if matrix.shape[1] != self.n_items_:
            expected = f"one column per training item ({self.n_items_})"
            raise DataError(f"user_items must have {expected}, got shape {matrix.shape}")
        return matrix

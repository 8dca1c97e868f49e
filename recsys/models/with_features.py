"""A model and items that it has never met, which it recommends by their features."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.columns import ITEM
from recsys.errors import BundleError, DataError, UnsupportedError
from recsys.features import Features
from recsys.frames import as_table
from recsys.interactions import Interactions
from recsys.metrics.lists import unit_rows
from recsys.models import leaning
from recsys.models.base import Recommender
from recsys.models.codes import Doubles
from recsys.models.described import Described
from recsys.models.fitting import FitOptions, Validates
from recsys.models.inner import HasInner, Inner, OfInner, Whole
from recsys.models.new_items import NO_REMAINDER, NewItems, Trial, derived, nearest
from recsys.models.new_items import restored as new_items
from recsys.models.part_fits import PartFits
from recsys.models.parts import restored, stored
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Size, Stored, number
from recsys.models.warm_loss import held_out, level, press, pressed
from recsys.models.weighing import part_of
from recsys.params import Count, Fraction, Positive, Seed
from recsys.training import Record

PREFIX = "new."


_STRENGTH = 1.0
"""λ of the ridge until it is chosen."""


@register
class WithFeatures(HasInner, Described):
    """A model that also recommends items that training never saw, by their features; for ranking.

    `fit` fits `model` to the interactions. Items without any interaction, and those of a later `with_items(table)`, are
    new items: a ridge from features to what was learned of the known ones gives each its vector, or its column of a
    linear model's B, or its shares in the known items' scores, as long as features can be trusted (see
    `models.new_items`). In a history, a new item is read as the known ones whose features are nearest. One that shares
    no feature with any of these is never recommended. `similar_items` compares new items by the model's own vectors
    where it has them, else by the cosine of features.

    Known items are scored as `model` scores them. A bare matrix has no features: `model` alone is fitted to it.
    """

    capabilities = OfInner()

    model: Inner = "EASE"
    """The model to fit, or one that is fitted; in a configuration its name or a table of `name` and hyperparameters."""
    strength: Positive | None = None
    """λ of the ridge, for rows of features of length 1; None: chosen on items that are held out of the ridge."""
    warm_loss: Fraction = 0.01
    """Share of their nDCG@20 that known items may lose to new ones in common lists, measured on the validation part if
    it holds out entries of known items, else expected (`models.warm_loss`); new ones are held back for it. 1: never."""
    held_back: tuple[Fraction, Fraction] | None = None
    """Shares of the trust, and of scores beyond the user's 20th best known item, that count; None: by `warm_loss`."""
    in_training: bool = False
    """Let the network `model` (MultVAE, MultDAE) learn with features: vectors of items are their own plus features ·
    W, in the first layer and in the last. New items get features · W, and the ridge is to what that leaves."""
    neighbors: Count = 10
    """Known items in whose place a new item of a history is read."""
    seed: Seed = 0
    """Added to the seed of `model` if it is to be fitted; also that by which items are held out."""
    device: str = "auto"
    """Where `model` computes if it does not say it itself: `auto`, `cpu`, `cuda` or `cuda:1`."""

    def _check_params(self) -> None:
        super()._check_params()
        if self.in_training and "model_" not in vars(self):
            leaning.check(self.inner())

    def _for_refit(self) -> Self:
        chosen = {"strength": self.strength_, "held_back": self.held_back_, "model": self.model_.for_refit(), "seed": 0}
        return type(self)(**{**self.get_params(), **chosen})

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        self._describe(options)
        if options.validation and self.features_ is not None:
            fits = PartFits(self, matrix, replace(options, validation=Whole(self, self._put, options.validation)))
        else:
            fits = PartFits(self, matrix, options)
        inner = self.inner()
        if self.in_training and self.features_ is not None:
            inner.support = leaning.Support(self._described()[1], self._trained())
            leaning.require_memory(inner, inner.support)
        [self.model_] = fits.run([inner])
        began = time.perf_counter()
        self._choose(matrix, options.validation)
        figures = options.validation(self) if options.validation else {}
        return fits.end({"seconds": time.perf_counter() - began, **figures})

    def _put(self, model: Recommender) -> None:
        """Take a model whose training goes on; λ is chosen when it is fitted."""
        unchosen = NO_REMAINDER if self.in_training else _STRENGTH
        self.model_, self.strength_, self.trust_, self.held_back_ = model, self.strength or unchosen, 1.0, (1.0, 1.0)
        self._settle()

    def _choose(self, matrix: sp.csr_matrix, validation: Validates | None = None) -> None:
        """Choose λ, unless it is given, and how far features can be trusted; derive what new items score."""
        self.strength_, self.trust_, self.held_back_ = self.strength or _STRENGTH, 1.0, self.held_back or (1.0, 1.0)
        if self.features_ is None:
            self._settle()
            return
        known, rows = self._described()
        known_matrix = matrix[:, : self.model_.n_items_]
        trial = Trial(self.model_, known_matrix, known, rows[known], self.seed, self._lent())
        self.strength_ = self.strength or trial.strength()
        self.trust_ = trial.trust(self.strength_)
        self._settle()
        if self.held_back is None:
            self._hold_back(trial, known_matrix, validation)

    def _hold_back(self, trial: Trial, matrix: sp.csr_matrix, validation: Validates | None) -> None:
        """Choose how far new items are held back; where there are few, as if those of the trial were to come."""
        new, known = self.derived_, np.flatnonzero(self._trained())
        if new is None or len(self.new_) < len(trial.held):
            self.held_back_ = press(*trial.as_new(self.strength_, self.trust_), trial.context, self.warm_loss)
        else:
            context, target = held_out(part_of(validation), known, self.model_.n_items_) or (matrix, None)
            read = cast(sp.csr_matrix, self._as_read(context))
            derive = lambda share: new if share == 1.0 else self._derived(share)  # noqa: E731
            self.held_back_ = press(self.model_, known, derive, read, self.warm_loss, target)
        if self.held_back_[0] != 1.0:
            self._settle()

    def _described(self) -> tuple[Indices, sp.csr_matrix]:
        """Return the items that training had entries of, and the features of all items in rows of length 1."""
        assert self.features_ is not None
        known = np.flatnonzero(self._trained())
        rows = unit_rows(self.features_.matrix, self.n_items_)
        if not np.diff(rows.indptr)[known].any():
            raise DataError("no item of the training data has a feature, so that nothing can be learned from features")
        return known, sp.csr_matrix(rows)

    def _settle(self) -> None:
        """Derive what new items score, and as what they are read, from the model inside and the features."""
        self.new_, self.derived_ = np.zeros(0, np.int64), None
        self.read_as_ = sp.csr_matrix(np.zeros((0, self.model_.n_items_), np.float32))
        if self.features_ is None:
            return
        known, rows = self._described()
        self.new_ = self._new_items()
        if not len(self.new_):
            return
        self.derived_ = self._derived(self.held_back_[0])
        self.read_as_ = nearest(rows[self.new_], rows[known], known, self.model_.n_items_, self.neighbors)
        self._count_new(self.new_)

    def _derived(self, share: float) -> NewItems:
        """Return what new items score at a share of the trust."""
        (known, rows), trust = self._described(), self.trust_ * share
        return derived(self.model_, known, rows[known], rows[self.new_], self.strength_, trust, self._lent())

    def _lent(self) -> leaning.Lent | None:
        """Return what features lend to vectors of items, where the model inside has learned with them."""
        return leaning.lent_by(self.model_) if self.in_training else None

    def _as_read(self, histories: Histories) -> Histories:
        """Return the histories as the model inside reads them, with the nearest known items in place of new ones."""
        if histories is None:
            return None
        n_own = self.model_.n_items_
        own = histories if histories.shape[1] == n_own else sp.csr_matrix(histories[:, :n_own])
        if not np.isin(histories.indices, self.new_).any():
            return own
        new = sp.csr_matrix(histories[:, self.new_])
        # Those among the columns of the model are empty in its training, and mean nothing to it.
        kept = np.ones(n_own, np.float32)
        kept[self.new_[self.new_ < n_own]] = 0.0
        own = sp.csr_matrix(own @ sp.diags_array(kept) + new @ self.read_as_, dtype=np.float32)
        own.eliminate_zeros()
        own.sort_indices()
        return own

    def _scored_as(self, userid: Indices, histories: Histories) -> Indices:
        return userid  # the model inside says which users it folds in

    def _known(self, userid: Indices) -> npt.NDArray[np.bool_]:
        return self.inner()._known(userid)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        read, model = self._as_read(histories), self.model_
        users = model._scored_as(userid, read)
        wanted = np.arange(self.n_items_) if items is None else items
        place = np.full(self.n_items_, -1)
        place[self.new_] = np.arange(len(self.new_))
        # Of all items all that the model has: what new ones score may be made of it.
        of_model = np.flatnonzero((wanted < model.n_items_) & ((place[wanted] < 0) | (items is None)))
        of_new = np.flatnonzero(place[wanted] >= 0)
        alone = len(of_model) == len(wanted) and not len(of_new)
        own = model._checked(read, users, None if items is None else wanted[of_model], out if alone else None)
        if alone:
            return own
        scores = torch.full((len(userid), len(wanted)), -torch.inf, device=own.device)
        scores[:, torch.from_numpy(of_model)] = own
        if len(of_new):
            assert self.derived_ is not None
            whole, held_back = own if items is None else None, self.held_back_[1] < 1.0
            if whole is None and held_back:
                whole = model._checked(read, users, None, None)
            new = self.derived_.scores(model, read, users, whole)
            if whole is not None and held_back:
                known = torch.from_numpy(np.flatnonzero(self._trained()[: model.n_items_]))
                new = pressed(new, level(whole, known, read).to(new.device), self.held_back_[1])
            scores[:, torch.from_numpy(of_new)] = new[:, torch.from_numpy(place[wanted[of_new]])].to(own.device)
        return scores

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles | None:
        if np.isin([*items, *history.indices], self.new_).any() or (items >= self.model_.n_items_).any():
            return None
        return self.model_._contributions(sp.csr_matrix(history[:, : self.model_.n_items_]), items)

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        return self.model_._encode(cast(sp.csr_matrix, self._as_read(histories)))

    def _user_vectors(self) -> Tensor:
        return self.model_._user_vectors()

    def _item_vectors(self) -> Tensor:
        own = self.model_._item_vectors()
        new = None if self.derived_ is None else self.derived_.vectors()
        if len(self.new_) and (new is None or new.shape[1] != own.shape[1]):
            raise UnsupportedError(f"{type(self.model_).__name__} has no vectors of new items; see similar_items()")
        whole = torch.zeros(self.n_items_, own.shape[1])
        whole[: len(own)] = own.detach().cpu()
        if new is not None:
            whole[torch.from_numpy(self.new_)] = new
        return whole

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        trained = np.ones(self.n_items_, bool)
        trained[self.new_] = trained[self.model_.n_items_ :] = False
        found = torch.zeros(len(asked), len(among))
        old = [np.flatnonzero(trained[one]) for one in (asked, among)]
        if len(old[0]) and len(old[1]):
            own = self.model_._item_similarity(asked[old[0]], among[old[1]]).cpu()
            found[torch.from_numpy(old[0])[:, None], torch.from_numpy(old[1])] = own
        if self.features_ is not None and (len(old[0]) < len(asked) or len(old[1]) < len(among)):
            rows = sp.csr_matrix(unit_rows(self.features_.matrix, self.n_items_))
            cosines = torch.from_numpy((rows[asked] @ rows[among].T).toarray().astype(np.float32))
            new = torch.from_numpy(~(trained[asked][:, None] & trained[among]))
            found[new] = cosines[new]
        return found

    def _check_finite(self, matrix: sp.csr_matrix) -> None:
        """Check what was derived; the model inside has checked what it learned."""
        arrays = {} if self.derived_ is None else self.derived_.arrays()
        if any(not np.isfinite(array).all() for array in arrays.values()):
            raise self._not_finite("has derived NaN or infinite values for new items")

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        own = {} if self.derived_ is None else self.derived_.arrays()
        read = {name: getattr(self.read_as_, name) for name in ("data", "indices", "indptr")}
        new = {f"{PREFIX}{name}": array for name, array in {**own, **read, "items": self.new_}.items()}
        return {**stored([self.model_])[0], **self._feature_arrays(), **new}

    def _state(self) -> dict[str, Any]:
        kind = None if self.derived_ is None else self.derived_.kind
        own = {name: getattr(self, f"{name}_") for name in ("strength", "trust", "held_back")}
        own |= {"n_items": self.model_.n_items_, "kind": kind}
        return {"parts": stored([self.model_])[1], "inside": own, **self._feature_state()}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        own = state.get("inside")
        if not isinstance(own, Mapping):
            raise BundleError("there is no table `inside`, what its model knows")
        n_base = number(own, "n_items", Size)
        if n_base > self.n_items_:
            raise BundleError(f"the model inside has {n_base:,} items, more than the {self.n_items_:,} of the whole")
        expected = type(self.inner()).__name__
        [self.model_] = restored(self, arrays, state.get("parts"), self.device, n_items=n_base)
        if type(self.model_).__name__ != expected:
            raise BundleError("the model inside must be that which its hyperparameters name")
        self.strength_, self.trust_ = number(own, "strength"), number(own, "trust")
        given = own if "held_back" in own else {"held_back": (1.0, 1.0)}  # of 0.2.0
        self.held_back_ = number(given, "held_back", tuple[Fraction, Fraction])
        self._restore_features(arrays, state)
        n_features = 0 if self.features_ is None else self.features_.matrix.shape[1]
        if (lent := self._lent()) is not None and len(lent.weight) != n_features:
            raise BundleError("its network must lean on the features that it reads")
        self.new_ = arrays.array(f"{PREFIX}items", (None,), np.int64, within=(0, self.n_items_ - 1))
        if not np.array_equal(self.new_, self._new_items()):
            raise BundleError("its new items must be those with features that training did not see")
        self.read_as_ = arrays.csr((len(self.new_), n_base), PREFIX)
        kind = own.get("kind")
        self.derived_ = None if kind is None else new_items(kind, arrays, PREFIX, len(self.new_), self.model_)
        if (self.derived_ is None) != (not len(self.new_)):
            raise BundleError("it must say what its new items score")


def extended(model: Recommender, items: Any, user_items: Any, options: Mapping[str, Any]) -> WithFeatures:
    """Return a fitted model with the items of a table; see `Recommender.with_items`."""
    model._check_fitted()
    if model.items_ is None:
        raise DataError(
            f"this {type(model).__name__} knows no external ids, by which a table names its items; fit it to "
            "Interactions, or make them with Interactions.from_frame"
        )
    if user_items is None:
        raise DataError("pass the interactions that the model was fitted to: they show how far features can be trusted")
    whole = WithFeatures(model=model, **options)
    whole.check_params()
    for name in ("n_users_", "users_", "about_", "user_counts_", "record_", "titles_", "items_", "n_items_"):
        setattr(whole, name, getattr(model, name))
    whole.popularity_, whole.user_digests_, whole.model_ = model.popularity_, None, model
    data = user_items if isinstance(user_items, Interactions) else None
    matrix = data.histories(model.items_) if data else whole._matrix(user_items)
    table = as_table(items, [ITEM])
    features = Features.from_frame(table, columns=whole.columns, min_count=whole.min_count)
    whole.features_ = Features(model.items_, features.rows(model.items_), features.recipe)
    if not (features.ids.codes_of(model.items_, "item") >= 0).any():
        raise DataError(
            f"the table describes none of the items that the model knows: {features.ids!r} there, {model.items_!r} here"
        )
    whole._append(features, table)
    whole._choose(matrix)
    return whole

"""A blend: one model made of several, whose scores or ratings it adds up."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.errors import BundleError, ConfigError, UnsupportedError
from recsys.memory import Need
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.fitting import FitOptions
from recsys.models.graph import score_graph
from recsys.models.learner import Floats
from recsys.models.part_fits import PartFits
from recsys.models.parts import Parts, capabilities_of, check_models, is_fitted, made, restored, stored, tables
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Stored, number
from recsys.models.weighing import MOST_BYTES, least_squares, on_one_scale, part_of, searched_weights
from recsys.nn.graphs import BlendedScores
from recsys.params import Real, Seed
from recsys.training import Record


class _OfParts:
    """The capabilities of a blend: those of its parts; read at the class, those of its default parts."""

    def __get__(self, blend: Blend | None, owner: type | None = None) -> Capabilities:
        if blend is None:
            return Capabilities(encodes=False, keeps_users=False, trains_by_epochs=True, weighs_users=True)
        return capabilities_of(blend.members())


@register
class Blend(Recommender):
    """The weighted sum of models: for ranking of their scores on one scale, for ratings of their predictions.

    Models that err differently, such as a linear one and a network, or autoencoders of users and of items, are better
    together than the best of them. What a blend can do follows from its parts: it serves new users as they do, and
    predicts ratings if all of them do.

    `fit` fits the parts that are not fitted, each as it would be alone, early stopping included, and then chooses the
    weights on the validation part: `fit(train, validation=Validation(split.validation, ...))`. Without one all weights
    are equal. A model that was fitted before is taken as it is; it must be of the same users and items.

    - Ranking: s_ui = Σ_m w_m (s_mui − mean_i s_mui) / sd_i s_mui, mean and standard deviation over all items, for each
      user and part m. w_m ≥ 0 with Σ w_m = 1 maximize the validation metric (Caruana et al. 2004; see
      `searched_weights`). A part that gives all items of a user the same score says nothing about that user.
    - Ratings: r̂_ui = b + Σ_m w_m r̂_mui, where b and w_m ≥ 0 are the least squares on the validation ratings (Breiman
      1996), clipped to the range of the training ratings. Lists are by Σ_m w_m s_mui.

    `similar_items` ranks by the weighted mean of the similarities of those parts that compare items. `parts_` are the
    fitted models and `weights_` their weights, in order.
    """

    capabilities = _OfParts()

    parts: Parts = ({"name": "EASE"}, {"name": "MultVAE"})
    """What the blend is made of: models, or tables of their `name` and hyperparameters (`[[model.parts]]`), in which
    `seeds` stands for one part per seed."""
    weights: tuple[Real, ...] | None = None
    """Weights of the parts, in order; None: chosen on the validation part, equal without one."""
    intercept: Real = 0.0
    """b of predicted ratings, read where `weights` are given."""
    seed: Seed = 0
    """Added to the seeds of the parts that are to be fitted; also the seed by which users are drawn to choose weights,
    where they are too many."""
    device: str = "auto"
    """Where parts compute that do not say it themselves: `auto`, `cpu`, `cuda` or `cuda:1`."""

    def members(self) -> Sequence[Recommender]:
        """Return the models that the blend is made of, fitted if it is."""
        fitted: Sequence[Recommender] | None = vars(self).get("parts_")
        return made(self.parts, self.seed, self.device) if fitted is None else fitted

    def params(self) -> dict[str, Any]:
        """Return the hyperparameters as JSON values; models among the parts become tables."""
        return {**super().params(), "parts": tables(self.parts)}

    def with_items(self, items: Any, user_items: Any = None, **options: Any) -> Recommender:
        """Return this blend with further items, where all of its parts read features; else see `Recommender`.

        Raises:
            UnsupportedError: some parts read features and others do not.
        """
        self._check_fitted()
        able = [getattr(part, "features_", None) is not None for part in self.parts_]
        if not any(able):
            found: Recommender = super().with_items(items, user_items, **options)
            return found
        if not all(able):
            lacking = ", ".join(type(part).__name__ for part, reads in zip(self.parts_, able, strict=True) if not reads)
            raise UnsupportedError(
                f"{lacking} of this blend read no features of items; make them parts as "
                '{ name = "WithFeatures", model = ... }'
            )
        whole = copy.copy(self)
        whole.parts_ = [part.with_items(items, user_items, **options) for part in self.parts_]
        for name in ("items_", "titles_", "n_items_", "popularity_"):
            setattr(whole, name, getattr(whole.parts_[0], name))
        return whole

    def _check_params(self) -> None:
        models = made(self.parts, self.seed, self.device)
        check_models(models)
        if self.weights is not None and len(self.weights) != len(models):
            raise ConfigError(f"weights must be one for each of the {len(models)} parts, got {len(self.weights)}")

    def why_no_ratings(self) -> str:
        """Return why this blend predicts no ratings: one of its parts does not; empty where it does."""
        reasons = ((type(model).__name__, model.why_no_ratings()) for model in self.members())
        return next((f"has a part {name}, which {reason}" for name, reason in reasons if reason), "")

    def chosen_on_validation(self) -> str:
        """Return `weights`, unless they are given or there is one part."""
        return "weights" if self.weights is None and len(self.members()) > 1 else ""

    def _for_refit(self) -> Self:
        parts = tuple(model.for_refit() for model in self.parts_)
        chosen = {
            "parts": parts,
            "weights": self.weights_,
            "intercept": self.intercept_,
            "seed": 0,
        }  # the parts have it
        return type(self)(**{**self.get_params(), **chosen})

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        kept, most = 0.0, Need(0.0, "take fewer parts")
        models = self.members()
        for model in models:
            need = None if is_fitted(model) else model.memory_needed(matrix)
            if need is not None:
                if kept + need.bytes > most.bytes:
                    most = Need(kept + need.bytes, f"take fewer parts, or for {type(model).__name__}: {need.instead}")
                kept += need.bytes if need.kept is None else need.kept
        scores = min(MOST_BYTES, 4.0 * len(models) * self.n_users_ * self.n_items_)
        return most._replace(bytes=max(most.bytes, kept + scores))

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        fits = PartFits(self, matrix, options)
        parts = fits.run(self.members())
        began = time.perf_counter()
        self.parts_ = parts
        self.rating_range_ = (float(matrix.data.min()), float(matrix.data.max()))
        self.weights_, self.intercept_ = self._weigh(options)
        figures = options.validation(self) if options.validation else {}
        return fits.end({"seconds": time.perf_counter() - began, **figures})

    def _weigh(self, options: FitOptions) -> tuple[tuple[float, ...], float]:
        """Return the weights of the parts and the intercept."""
        part = part_of(options.validation)
        if self.weights is not None:
            return tuple(map(float, self.weights)), float(self.intercept)
        if part is None or len(self.parts_) == 1:
            return (1.0 / len(self.parts_),) * len(self.parts_), 0.0
        if self.capabilities.rates:
            return least_squares(self.parts_, part)
        return searched_weights(self.parts_, options.validation, self.seed), 0.0

    def _check_finite(self, matrix: sp.csr_matrix) -> None:
        """Check nothing again: each part has checked what it learned, and the weights are finite."""

    def _used(self) -> list[tuple[float, Recommender]]:
        """Return the parts that have a weight; the first where none has."""
        pairs = list(zip(self.weights_, self.parts_, strict=True))
        return [pair for pair in pairs if pair[0]] or pairs[:1]

    def _scored_as(self, userid: Indices, histories: Histories) -> Indices:
        return userid  # each part says which users it folds in

    def _known(self, userid: Indices) -> npt.NDArray[np.bool_]:
        known = np.zeros(len(userid), bool)
        for model in self.members():
            known |= model._known(userid)
        return known

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        rates, total = self.capabilities.rates, None
        for weight, model in self._used():
            if rates:
                scores = model._checked(histories, model._scored_as(userid, histories), items, None)
            else:  # the scale is that of all items, whichever are asked for
                scores = on_one_scale(model, histories, userid)
                scores = scores if items is None else scores[:, torch.from_numpy(items).to(scores.device)]
            total = scores.mul_(weight) if total is None else total.add_(scores.to(total.device), alpha=weight)
        assert total is not None  # a blend has parts
        return total

    def _ratings(self, userid: Indices, histories: Histories, rows: Indices, items: Indices) -> Floats:
        total = np.full(len(rows), self.intercept_)
        for weight, model in self._used():
            total += weight * model._ratings(model._scored_as(userid, histories), histories, rows, items)
        return np.asarray(np.clip(total, *self.rating_range_), dtype=np.float32)

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        able = [pair for pair in zip(self.weights_, self.parts_, strict=True) if pair[1].capabilities.compares_items]
        if not any(weight for weight, _ in able):
            able = [(1.0, model) for _, model in able]
        whole = sum(abs(weight) for weight, _ in able)
        found = torch.zeros(len(asked), len(among))
        for weight, model in able:
            found.add_(model._item_similarity(asked, among).cpu(), alpha=weight / whole)
        return found

    def _graph(self) -> nn.Module:
        used = self._used()
        graphs = [score_graph(model) for _, model in used]
        on_cpu = [all(t.device.type == "cpu" for t in graph.state_dict().values()) for graph in graphs]
        # `cpu` would move the model's own network.
        parts = [graph if here else copy.deepcopy(graph).cpu() for graph, here in zip(graphs, on_cpu, strict=True)]
        return BlendedScores(parts, [weight for weight, _ in used], standardize=not self.capabilities.rates)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return stored(self.parts_)[0]

    def _state(self) -> dict[str, Any]:
        return {
            "parts": stored(self.parts_)[1],
            "weights": self.weights_,
            "intercept": self.intercept_,
            "rating_range": self.rating_range_,
        }

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        expected = [type(model).__name__ for model in self.members()]
        self.parts_ = restored(self, arrays, state.get("parts"), self.device)
        if expected != [type(model).__name__ for model in self.parts_]:
            raise BundleError("its parts must be those that its hyperparameters name")
        self.weights_ = number(state, "weights", tuple[Real, ...])
        if len(self.weights_) != len(self.parts_):
            raise BundleError(f"it must have a weight for each of {len(self.parts_)} parts, got {len(self.weights_)}")
        self.intercept_ = number(state, "intercept")
        self.rating_range_ = number(state, "rating_range", tuple[float, float])

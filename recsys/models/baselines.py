"""Baselines: popularity, and `implicit`'s ALS, BPR and item-kNN under the same contract."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
from implicit.recommender_base import ModelFitError
from implicit.utils import ParameterWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from recsys.errors import DataError, TrainingError
from recsys.mapped import column_counts
from recsys.memory import Need
from recsys.models import spaces
from recsys.models.base import Recommender
from recsys.models.capabilities import NO_GRAPH_OF_EQUATIONS, Capabilities
from recsys.models.codes import Doubles
from recsys.models.fitting import FitOptions
from recsys.models.pairwise import pairwise_fold_in
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices, dense_table
from recsys.models.stored import Stored
from recsys.nn.graphs import LinearScores, SameScores
from recsys.nn.products import affine
from recsys.params import Count, Fraction, NotNegative, Positive, Seed
from recsys.training import Record


@register
class Popularity(Recommender):
    """The same items for everyone: those with the most training users. What any other model must beat."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        personal=False,
        explains=False,
        encodes=False,
        compares_items=False,
        keeps_users=False,
        scores_known_users=True,
    )

    def reads_shards(self) -> bool:
        """True: it counts."""
        return True

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        self.counts_ = torch.from_numpy(column_counts(matrix).astype(np.float32))

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        counts = self.counts_ if items is None else self.counts_[torch.from_numpy(items)]
        return counts.repeat(len(userid), 1)

    def _graph(self) -> nn.Module:
        return SameScores(self.counts_)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"counts": self.counts_.numpy()}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self.counts_ = torch.from_numpy(arrays.array("counts", (self.n_items_,)))


@dataclass(kw_only=True, eq=False)
class Factors(Recommender):
    """Base of ALS and BPR: one vector per training user and item; new and changed histories are folded in."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        decodes=True, scores_known_users=True, new_users="fold-in", no_graph=NO_GRAPH_OF_EQUATIONS
    )
    biased: ClassVar[bool] = False
    """The vectors have one more column, that of the items' biases."""

    factors: Count = 64
    """Width of the vectors."""
    regularization: NotNegative = 0.01
    """λ of the L2 penalty on the vectors of users and items, as implicit scales it."""
    iterations: Count = 15
    """Passes over the data."""
    seed: Seed | None = 0
    """Seed of the initial vectors."""

    @abstractmethod
    def _implicit(self) -> Any:
        """Return implicit's model, not fitted."""

    def _memory(self, matrix: sp.csr_matrix) -> Need:
        return Need(6 * self.factors * sum(matrix.shape), "take fewer factors, or keep fewer items and users")

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        record = Record(metric=options.validation.metric if options.validation else None)

        def callback(iteration: int, elapsed: float, *figures: float) -> None:
            # ALS reports no loss unless asked at a cost, BPR its counts of correct and skipped samples.
            entry = {"epoch": iteration + 1.0, "seconds": elapsed}
            record.epochs.append(entry)
            if options.callback:
                options.callback(iteration, elapsed, None)
            if options.on_epoch and not (options.validation and iteration + 1 == self.iterations):
                options.on_epoch(entry)

        with threadpool_limits(1, "blas"):  # implicit runs its own threads, and warns of BLAS threads below them
            model = self._implicit()
            try:
                model.fit(_writeable(matrix), show_progress=options.show_progress, callback=callback)
            except ModelFitError as error:
                raise TrainingError(
                    f"implicit could not fit {type(self).__name__}: {error}; "
                    "lower its learning_rate or alpha, or raise its regularization"
                ) from None
        self.user_factors_ = torch.from_numpy(np.asarray(model.user_factors, dtype=np.float32))
        self.item_factors_ = torch.from_numpy(np.asarray(model.item_factors, dtype=np.float32))
        if len(empty := np.flatnonzero(self.user_counts_ == 0)):
            self.user_factors_[torch.from_numpy(empty)] = self._encode(matrix[empty])
        if options.validation:  # implicit's loops cannot be looked into: the final vectors are measured
            record.epochs[-1].update(options.validation(self))
            record.best_epoch = len(record.epochs)
            if options.on_epoch:
                options.on_epoch(record.epochs[-1])
        return record

    def _users(self, histories: Histories, userid: Indices) -> Tensor:
        known = self._known(userid)
        vectors = self.user_factors_[torch.from_numpy(np.where(self._indexed(userid), userid, 0))].clone()
        if not known.all() and histories is not None:
            new = np.flatnonzero(~known)
            vectors[torch.from_numpy(new)] = self._encode(histories[new])
        return vectors

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        table = self.item_factors_ if items is None else self.item_factors_[torch.from_numpy(items)]
        return affine(self._users(histories, userid), table, out=out)

    def _item_table(self) -> tuple[Tensor, Tensor] | None:
        return (self.item_factors_, torch.zeros(self.n_items_)) if type(self)._scores is Factors._scores else None

    def _queries(self, histories: sp.csr_matrix, userid: Indices) -> Tensor:
        return self._users(histories, userid)

    def _decode(self, codes: Tensor) -> Tensor:
        return affine(codes, self.item_factors_)

    def _user_vectors(self) -> Tensor:
        return self.user_factors_

    def _item_vectors(self) -> Tensor:
        return self.item_factors_

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"user_factors": self.user_factors_.numpy(), "item_factors": self.item_factors_.numpy()}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        width = self.factors + self.biased
        self.user_factors_ = torch.from_numpy(arrays.array("user_factors", (self.n_users_, width)))
        self.item_factors_ = torch.from_numpy(arrays.array("item_factors", (self.n_items_, width)))


@register
class ALS(Factors):
    """`implicit`'s alternating least squares (Hu, Koren and Volinsky 2008); entries are confidences `alpha` · x.

    A new user's vector is the exact solution of the user's half-step, which training approximates by a few steps of
    conjugate gradients.
    """

    capabilities: ClassVar[Capabilities] = replace(Factors.capabilities, popularity_fallback=True)
    search_space = spaces.ALS

    regularization: NotNegative = 10.0
    """λ of the L2 penalty on the vectors of users and items. implicit's own default, 0.01, ranks hardly better than
    popularity where histories are short."""
    alpha: Positive = 1.0
    """Confidence of a stored entry per unit of its value."""

    def _implicit(self) -> AlternatingLeastSquares:
        return AlternatingLeastSquares(
            factors=self.factors,
            regularization=self.regularization,
            alpha=self.alpha,
            iterations=self.iterations,
            random_state=self.seed,
        )

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        with threadpool_limits(1, "blas"):
            model = self._implicit()
            model.item_factors = self.item_factors_.numpy()
            model.user_factors = np.zeros((1, self.factors), dtype=np.float32)
            vectors = model.recalculate_user(np.arange(histories.shape[0]), _writeable(histories))
        return torch.from_numpy(np.atleast_2d(np.asarray(vectors, dtype=np.float32)))

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        # §5 of the paper: y_iᵀ W c_j y_j with W = (YᵀCY + λI)⁻¹. Entries below 0 are confidences that items are
        # not liked: they are in C alone.
        vectors, confidence = self.item_factors_.double().numpy(), self.alpha * history.data.astype(np.float64)
        own = vectors[history.indices]
        normal = vectors.T @ vectors + self.regularization * np.eye(self.factors)
        normal += (own * (np.abs(confidence) - 1.0)[:, None]).T @ own
        weights: Doubles = np.maximum(confidence, 0.0)[:, None] * (own @ np.linalg.solve(normal, vectors[items].T))
        return weights


@register
class BPR(Factors):
    """`implicit`'s Bayesian personalized ranking (Rendle et al. 2009).

    A new user's vector maximizes the objective of training with the items fixed, as far as the updates of all
    `iterations` would reach it (`pairwise_fold_in`). The items' biases are added to the scores of all users.

    implicit draws the items that a user should not prefer by popularity, where the paper draws all alike. What then is
    best is log p(i|u) − log p(i) in place of log p(i|u), which ranks little better than popularity alone, so that
    `popularity_exponent` times the log of the item's number of users is added again. With 0 the lists are implicit's.
    """

    search_space = spaces.BPR
    biased = True

    learning_rate: Positive = 0.01
    """Step size of the stochastic gradient descent."""
    iterations: Count = 100
    popularity_exponent: Fraction = 1.0
    """Exponent of an item's number of users, by whose log its score grows: 1 undoes that negatives are popular."""

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
        popular = self.popularity_exponent * np.log(np.maximum(counts, 0.5))
        self.offsets_ = torch.from_numpy(popular.astype(np.float32))
        return super()._fit(matrix, options)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        offsets = self.offsets_ if items is None else self.offsets_[torch.from_numpy(items)]
        return super()._scores(histories, userid, items, out).add_(offsets)

    def _item_table(self) -> tuple[Tensor, Tensor] | None:
        return (self.item_factors_, self.offsets_) if type(self)._scores is BPR._scores else None

    def _decode(self, codes: Tensor) -> Tensor:
        return super()._decode(codes).add_(self.offsets_)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {**super()._arrays(), "offsets": self.offsets_.numpy()}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        super()._restore(arrays, state)
        known = "offsets" in arrays  # no model of before has any
        self.offsets_ = (
            torch.from_numpy(arrays.array("offsets", (self.n_items_,))) if known else torch.zeros(self.n_items_)
        )

    def _implicit(self) -> BayesianPersonalizedRanking:
        # One thread: with more, implicit's updates race and the result differs from run to run.
        return BayesianPersonalizedRanking(
            factors=self.factors,
            learning_rate=self.learning_rate,
            regularization=self.regularization,
            iterations=self.iterations,
            num_threads=1,
            random_state=self.seed,
        )

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        # The last column of implicit's item factors is the item's bias, against a fixed 1 on the user's side.
        vectors = pairwise_fold_in(
            self.item_factors_,
            histories,
            self.popularity_,
            ridge=self.regularization,
            epochs=self.iterations,
            learning_rate=self.learning_rate,
        )
        return torch.cat([vectors, vectors.new_ones(len(vectors), 1)], 1)


def _writeable(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """Return the matrix over memory that may be written, which implicit's compiled code insists on and never does."""
    parts = tuple(np.require(part, requirements="W") for part in (matrix.data, matrix.indices, matrix.indptr))
    return sp.csr_matrix(parts, shape=matrix.shape)


_SIMILARITIES = {"cosine": CosineRecommender, "bm25": BM25Recommender, "tfidf": TFIDFRecommender}


@register
class ItemKNN(Recommender):
    """`implicit`'s item-to-item nearest neighbors: scores are x S with S the `neighbors` largest similarities.

    `similar_items` divides an item's similarities by the largest of them, since BM25 has no upper bound.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(encodes=False, keeps_users=False, popularity_fallback=True)
    search_space = spaces.ITEM_KNN

    neighbors: Count = 100
    """Neighbors kept per item, of which it is the first itself."""
    similarity: Literal["cosine", "bm25", "tfidf"] = "cosine"
    """Weighting of the entries before the dot product."""

    def _memory(self, matrix: sp.csr_matrix) -> Need:
        return Need(34 * self.n_items_ * min(self.neighbors, self.n_items_), "keep fewer neighbors or items")

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> None:
        if self.similarity != "cosine" and matrix.data.min() < 0:
            raise DataError(
                f"similarity={self.similarity!r} reads entries as counts: {int((matrix.data < 0).sum())} are negative; "
                "use 'cosine', or .binarized()"
            )
        model = _SIMILARITIES[self.similarity](K=min(self.neighbors, self.n_items_))
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            # implicit converts its own weighted matrix and warns of it.
            warnings.simplefilter("ignore", ParameterWarning)
            model.fit(matrix, show_progress=options.show_progress)
        self.similarity_ = sp.csr_matrix(model.similarity, dtype=np.float32)
        np.nan_to_num(self.similarity_.data, copy=False)  # an item of stored zeros alone has length 0: similar to none

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        assert histories is not None  # no user is known without
        table = self.similarity_ if items is None else self.similarity_[:, items]
        return torch.from_numpy((histories @ table).toarray())

    def _contributions(self, history: sp.csr_matrix, items: Indices) -> Doubles:
        shares: Doubles = self.similarity_[history.indices][:, items].toarray().astype(np.float64)
        return history.data[:, None] * shares

    def _graph(self) -> nn.Module:
        return LinearScores(dense_table(self.similarity_))

    def _item_similarity(self, asked: Indices, among: Indices) -> Tensor:
        rows = self.similarity_[asked]
        largest = rows.max(axis=1).toarray()
        largest[largest <= 0] = 1.0
        return torch.from_numpy((rows[:, among].toarray() / largest).astype(np.float32))

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {name: getattr(self.similarity_, name) for name in ("data", "indices", "indptr")}

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self.similarity_ = arrays.csr((self.n_items_, self.n_items_))

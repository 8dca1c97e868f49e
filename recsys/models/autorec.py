"""AutoRec (Sedhain, Menon, Sanner and Xie 2015), over users and over items."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError, DataError
from recsys.models.autoencoder import Autoencoder
from recsys.models.base import Fitting, Floats, pick_device
from recsys.models.biases import Biases
from recsys.models.capabilities import NO_GRAPH_OF_EQUATIONS, Capabilities
from recsys.models.fold_in import fold_in
from recsys.nn.layers import Scale, TypicalLength, as_stored
from recsys.nn.losses import masked_squared_error
from recsys.nn.networks import AutoRecNetwork
from recsys.nn.products import affine
from recsys.sparse import Batch, Rows
from recsys.training import Alternation, Loss, Objective, Record
from recsys.training.loop import Schedule

Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(kw_only=True, eq=False)
class AutoRec(Autoencoder):
    """What both orientations share: the objective and the scale of ratings.

    Objective (eq. 2): Σ over stored r of (r − h(r; θ))² + λ/2 · (‖W‖² + ‖V‖²), λ = `weight_decay`, minimised by
    Adam in batches of rows: each step sees its rows' errors and their share of the penalty. The output offsets start at
    the constant that predicts best, the hidden ones at zero, the weights as Glorot and Bengio (2010).
    """

    capabilities: ClassVar[Capabilities] = replace(Autoencoder.capabilities, rates=True, ranks_with="unobserved_weight")

    weight_decay: float = 200.0
    """λ of the objective, on the scale of the sum of squared errors over all training ratings."""
    unobserved_weight: float = 0.0
    """Weight of the unstored entries as zeros: 0 as in the paper (rating prediction), > 0 to rank for top-N."""
    centre: bool | None = None
    """Subtract the mean training rating from the stored ratings and add it back to predictions."""
    biases: float | None = None
    """Subtract user and item biases too (`Biases`), shrunk by so many ratings: it helps where ratings are few."""
    normalise: bool = False
    """Bring all rows to one Euclidean length, that of a typical training row, before they are encoded. Better on
    MovieLens-1M than as in the paper, where long rows saturate the sigmoids and short ones hardly move them."""
    clip: bool = True
    """Clip predicted ratings to the range of the training ratings."""
    cold_rating: float | None = None
    """Prediction for a user or an item without training ratings: 3 in the paper; None for the mean and the biases."""
    epochs: int = 40
    batch_size: int = 256
    schedule: Schedule = "cosine"

    _centres_by_default = False

    def _centring(self) -> bool:
        if self.biases is not None:
            return True
        return self._centres_by_default and not self.unobserved_weight if self.centre is None else self.centre

    def _check_params(self) -> None:
        super()._check_params()
        if self.unobserved_weight < 0:
            raise ConfigError(f"unobserved_weight must not be negative, got {self.unobserved_weight}")
        if self.unobserved_weight and self.centre:
            raise ConfigError(
                "centre=True with unobserved_weight > 0 would count every unstored entry as an average rating; "
                "leave centre=None"
            )
        if self.biases is not None:
            if self.biases < 0:
                raise ConfigError(f"biases must be a number of ratings, 0 or more, or None, got {self.biases}")
            if self.centre is False:
                raise ConfigError("biases are taken from the mean: leave centre=None, or set biases=None")
            if self.unobserved_weight:
                raise ConfigError(
                    "biases with unobserved_weight > 0 would count every unstored entry as the rating that is to be "
                    "expected; set biases=None"
                )

    def _fit(self, matrix: sp.csr_matrix, fitting: Fitting) -> Record:
        if not self.unobserved_weight and matrix.data.min() == matrix.data.max():
            raise DataError(
                f"all {matrix.nnz:,} stored values are {matrix.data[0]:g}: a masked loss has nothing to learn from "
                "them; set unobserved_weight > 0 to rank items, or use MultVAE or EASE"
            )
        self.mean_ = float(matrix.data.mean(dtype=np.float64)) if self._centring() else 0.0
        self.biases_ = None if self.biases is None else Biases.of(matrix, self.biases)
        self.user_biases_ = None if self.biases_ is None else self.biases_.users(matrix)
        self.cold_rating_ = (
            float(matrix.data.mean(dtype=np.float64)) if self.cold_rating is None else float(self.cold_rating)
        )
        self.rating_range_ = (float(matrix.data.min()), float(matrix.data.max()))
        return super()._fit(matrix, fitting)

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        if self.biases_ is not None:
            return self.biases_.residuals(matrix)
        if not self.mean_:
            return matrix
        return sp.csr_matrix((matrix.data - np.float32(self.mean_), matrix.indices, matrix.indptr), shape=matrix.shape)

    def _scale(self) -> Scale:
        return TypicalLength() if self.normalise else as_stored

    def _initialise(self, network: Any, rows: Rows) -> None:
        # Ratings lie far from zero, and Adam moves a bias by one learning rate a step: start it at the best constant.
        stored, everything = rows.nnz, len(rows) * rows.n_columns
        weight = stored + self.unobserved_weight * (everything - stored)
        nn.init.constant_(network.output.bias, rows.total() / weight)
        if self.normalise:
            network.scale.length.fill_(rows.typical_length())

    def _decay(self, rows: Rows) -> float:
        return self.weight_decay / len(rows)

    def _objective(self, network: Any, rows: Rows) -> Objective | Alternation:
        return self._errors(network)

    def _errors(self, network: Any) -> Objective:
        """Return the error of the whole network's reconstruction."""

        def objective(batch: Batch, step: int, noise: torch.Generator) -> Loss:
            output = network.output
            hidden = network.decode(network.encode(batch, noise))
            total = masked_squared_error(hidden, output.weight, output.bias, batch, self.unobserved_weight)
            return Loss(total, len(batch.columns))

        return objective

    def _ratings(self, userid: Indices, histories: sp.csr_matrix | None, rows: Indices, items: Indices) -> Floats:
        raw, cold = self._pairs(userid, histories, rows, items)
        base: Floats | np.float32 = np.float32(self.mean_)
        if self.biases_ is not None:
            base = self.biases_.base(self._user_biases(userid, histories)[rows], items)
        ratings = raw + base
        if self.clip:
            ratings = np.clip(ratings, *self.rating_range_)
        if self.biases_ is None or self.cold_rating is not None:
            base = np.float32(self.cold_rating_)
        cold_pairs = cold[rows] | (self.popularity_[items] == 0)
        return np.where(cold_pairs, base, ratings).astype(np.float32)

    def _user_biases(self, users: Indices, histories: sp.csr_matrix | None) -> npt.NDArray[np.float64]:
        """Return b_u of each user, (len(users),), by the history where one decides."""
        assert self.biases_ is not None
        assert histories is not None
        return self.biases_.users(histories)

    def _scores(
        self,
        histories: sp.csr_matrix | None,
        userid: Indices,
        items: Indices | None,
        out: Tensor | None = None,
    ) -> Tensor:
        scores = self._residual_scores(histories, userid, items, out)
        if self.biases_ is None:
            return scores
        return self._add_biases(scores, self._user_biases(userid, histories), items)

    def _residual_scores(
        self, histories: sp.csr_matrix | None, userid: Indices, items: Indices | None, out: Tensor | None
    ) -> Tensor:
        """Return the scores of the network alone, before any biases."""
        return super()._scores(histories, userid, items, out)

    def _training_scores(self, rows: slice, items: Indices) -> Tensor:
        scores = self._residual_training_scores(rows, items)
        if self.biases_ is None:
            return scores
        assert self.user_biases_ is not None
        return self._add_biases(scores, self.user_biases_[rows], items)

    def _residual_training_scores(self, rows: slice, items: Indices) -> Tensor:
        return super()._training_scores(rows, items)

    def _add_biases(self, scores: Tensor, users: npt.NDArray[np.float64], items: Indices | None) -> Tensor:
        assert self.biases_ is not None
        of_items = self.biases_.items if items is None else self.biases_.items[items]
        return scores.add_(torch.from_numpy(users).to(scores)[:, None]).add_(torch.from_numpy(of_items).to(scores))

    @abstractmethod
    def _pairs(
        self, users: Indices, matrix: sp.csr_matrix | None, rows: Indices, items: Indices
    ) -> tuple[Floats, Bools]:
        """Return the value of each pair (rows[k], items[k]) and which of the users have no training rating."""

    def _state(self) -> dict[str, Any]:
        return {"mean": self.mean_, "cold_rating": self.cold_rating_, "rating_range": self.rating_range_}

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        self.mean_, self.cold_rating_ = float(state["mean"]), float(state["cold_rating"])
        self.rating_range_ = tuple(state["rating_range"])
        self.biases_, self.user_biases_ = None, arrays.get("user_biases")
        if self.biases is not None:
            self.biases_ = Biases(self.mean_, arrays["item_biases"], self.biases)
        super()._restore(arrays, state)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = super()._arrays()
        if self.biases_ is not None:
            assert self.user_biases_ is not None
            arrays |= {"item_biases": self.biases_.items, "user_biases": self.user_biases_}
        return arrays


@dataclass(kw_only=True, eq=False)
class ByUsers(AutoRec):
    """An autoencoder of users' rows: it serves any user from their history."""

    _centres_by_default = True

    def _pairs(
        self, users: Indices, matrix: sp.csr_matrix | None, rows: Indices, items: Indices
    ) -> tuple[Floats, Bools]:
        assert matrix is not None  # only models that know their users go without
        output = self.network_.output
        hidden = self.network_.decode(self._encode_rows(Rows(self._prepare(matrix), self._device)))
        raw = _products(hidden, output.weight, rows, items) + output.bias.detach().cpu().numpy()[items]
        return raw, np.diff(matrix.indptr) == 0


@dataclass(kw_only=True, eq=False)
class ByItems(AutoRec):
    """An autoencoder of items' columns of ratings, which once trained is a factor model.

    Item i has the vector h_i, the last hidden layer, and user u the row w_u and offset b_u of the output layer. A user
    who was not in training gets the w and b that minimise the same objective over their own history with the item
    vectors fixed: a ridge regression in closed form. Hence the best potential users of an item (`recommend_users`) and
    the best items of a user come from the same two tables.
    """

    capabilities: ClassVar[Capabilities] = replace(
        AutoRec.capabilities,
        scores_known_users=True,
        new_users="fold-in",
        popularity_fallback=True,
        no_graph=NO_GRAPH_OF_EQUATIONS,
    )

    def _fit(self, matrix: sp.csr_matrix, fitting: Fitting) -> Record:
        self.user_counts_ = np.diff(matrix.indptr).astype(np.int64)
        return super()._fit(matrix, fitting)

    def _n_in(self) -> int:
        return self.n_users_

    def _training_rows(self, matrix: sp.csr_matrix) -> Rows:
        # The one place that turns to items × users.
        return Rows(sp.csr_matrix(self._prepare(matrix).T), pick_device(self.device))

    def _refresh(self, rows: Rows) -> None:
        with torch.inference_mode():
            self.item_vectors_: Tensor = self.network_.decode(self._encode_rows(rows))
        self._take_users()

    def _take_users(self) -> None:
        self.user_vectors_: Tensor = self.network_.output.weight.detach()

    def _keep_users(self, rows: Rows) -> None:
        """Nothing to keep: the output layer holds the training users."""

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {
            **super()._arrays(),
            "item_vectors": self.item_vectors_.cpu().numpy(),
            "user_counts": self.user_counts_,
        }

    def _restore(self, arrays: Mapping[str, npt.NDArray[Any]], state: Mapping[str, Any]) -> None:
        super()._restore(arrays, state)
        self.item_vectors_ = torch.from_numpy(arrays["item_vectors"]).to(self._device)
        self.user_counts_ = arrays["user_counts"]
        self._take_users()

    def _users(self, histories: sp.csr_matrix | None, userid: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return (rows, hidden) vectors and (rows,) offsets: trained ones, or folded in from the history."""
        known = self._known(userid)
        index = torch.from_numpy(np.where(known, userid, 0)).to(self._device)
        vectors, offsets = self.user_vectors_[index].clone(), self.network_.output.bias[index].clone()
        if not known.all() and histories is not None:
            new = np.flatnonzero(~known)
            solved = fold_in(
                self._affine_items(),
                self._prepare(histories[new]),
                ridge=self.weight_decay / 2,  # λ/2 ‖w‖² against the sum of squares: eq. 2 in the new user's row
                unobserved_weight=self.unobserved_weight,
                free_columns=1,
            )
            where = torch.from_numpy(new).to(self._device)
            vectors[where], offsets[where] = solved[:, :-1], solved[:, -1]
        return vectors, offsets

    def _affine_items(self) -> Tensor:
        return torch.cat([self.item_vectors_, self.item_vectors_.new_ones(len(self.item_vectors_), 1)], 1)

    def _user_biases(self, users: Indices, histories: sp.csr_matrix | None) -> npt.NDArray[np.float64]:
        assert self.user_biases_ is not None
        known = self._known(users)
        found = np.where(known, self.user_biases_[np.where(known, users, 0)], 0.0)
        return found if histories is None else np.where(known, found, super()._user_biases(users, histories))

    def _residual_scores(
        self, histories: sp.csr_matrix | None, userid: Indices, items: Indices | None, out: Tensor | None
    ) -> Tensor:
        vectors, offsets = self._users(histories, userid)
        return self._score_items(vectors, offsets, items, out)

    def _score_items(
        self, vectors: Tensor, offsets: Tensor, items: npt.NDArray[np.int64] | None, out: Tensor | None = None
    ) -> Tensor:
        table = self.item_vectors_ if items is None else self.item_vectors_[torch.from_numpy(items).to(self._device)]
        return affine(vectors, table, out=out).add_(offsets[:, None])

    def _residual_training_scores(self, rows: slice, items: Indices) -> Tensor:
        return self._score_items(self.user_vectors_[rows], self.network_.output.bias[rows], items)

    def _user_vectors(self) -> Tensor:
        return self.user_vectors_

    def _item_vectors(self) -> Tensor:
        return self.item_vectors_

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        return self._users(histories, np.full(histories.shape[0], -1))[0]

    def _pairs(
        self, users: Indices, matrix: sp.csr_matrix | None, rows: Indices, items: Indices
    ) -> tuple[Floats, Bools]:
        vectors, offsets = self._users(matrix, users)
        raw = _products(vectors, self.item_vectors_, rows, items) + offsets.cpu().numpy()[rows]
        known = self._known(users)
        cold = np.ones(len(users), dtype=bool)
        cold[known] = self.user_counts_[users[known]] == 0
        if matrix is not None:
            cold[~known] = np.diff(matrix.indptr)[~known] == 0
        return raw, cold


@dataclass(kw_only=True, eq=False)
class UAutoRec(ByUsers):
    """U-AutoRec: each user's row of ratings is encoded and rebuilt; r̂_ui = (W · g(V r⁽ᵘ⁾ + μ) + b)_i.

    Predicts ratings, and with `unobserved_weight` > 0 ranks for top-N: a masked loss alone never learns which items a
    user would choose. Serves any user from their history.

    Sedhain et al. 2015, §2 (the user-based form of eq. 2), with f the identity and g the sigmoid. Differs from the
    paper in: Adam with a cosine schedule in place of resilient propagation; ratings are centred (`centre`), without
    which a sigmoid layer over raw ratings saturates on long rows; predictions are clipped (`clip`).
    """

    hidden: int = 500
    """Width of the hidden layer; 500 in the paper."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return AutoRecNetwork(n_in, self.hidden, generator, scale=self._scale())


@dataclass(kw_only=True, eq=False)
class IAutoRec(ByItems):
    """I-AutoRec: each item's column of ratings is encoded and rebuilt; r̂_ui = (W · g(V r⁽ⁱ⁾ + μ) + b)_u.

    Sedhain et al. 2015, eq. 2 and 3, with f the identity and g the sigmoid; item i has the vector h_i = g(V r⁽ⁱ⁾ + μ).
    Differs from the paper in: Adam with a cosine schedule in place of L-BFGS; predictions are clipped (`clip`).
    """

    hidden: int = 500
    """Width of the hidden layer; 500 in the paper."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return AutoRecNetwork(n_in, self.hidden, generator, scale=self._scale())


def _products(left: Tensor, right: Tensor, rows: Indices, items: Indices) -> Floats:
    """Return left[rows[k]] · right[items[k]] for every k, some at a time so that memory stays bounded."""
    raw = np.empty(len(rows), dtype=np.float32)
    for start in range(0, len(raw), 2**16):
        part = slice(start, start + 2**16)
        some, others = (torch.from_numpy(index[part]).to(left.device) for index in (rows, items))
        raw[part] = (left[some] * right[others]).sum(1).cpu().numpy()
    return raw

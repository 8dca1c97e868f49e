"""AutoRec (Sedhain, Menon, Sanner and Xie 2015), over users and over items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recsys.devices import pick_device
from recsys.errors import BundleError, ConfigError, DataError, UnsupportedError
from recsys.mapped import Matrix, extremes, squares, total
from recsys.models import spaces
from recsys.models.autoencoder import Autoencoder, encode_rows
from recsys.models.capabilities import NO_GRAPH_OF_EQUATIONS, Capabilities
from recsys.models.fitting import FitOptions
from recsys.models.learner import Floats
from recsys.models.least_squares import Biases, ItemFactors, pair_products, squared_error
from recsys.models.registry import register
from recsys.models.selection import Histories, Indices
from recsys.models.stored import Stored, number
from recsys.nn.graphs import CenteredScores, UnbiasedScores
from recsys.nn.layers import Scale, TypicalLength, as_stored
from recsys.nn.networks import AutoRecNetwork
from recsys.nn.products import affine
from recsys.params import Count, NotNegative, Positive
from recsys.sparse import Rows
from recsys.training import Alternation, Objective, Record
from recsys.training.config import Schedule


@dataclass(kw_only=True, eq=False)
class AutoRec(Autoencoder):
    """What rating autoencoders share: the objective, the scale of ratings, and how tables of vectors make scores.

    Objective (eq. 2): Σ over stored r of (r − h(r; θ))² + λ/2 · (‖W‖² + ‖V‖²), λ = `weight_decay`; a step sees its
    rows' errors and their share of the penalty. The output offsets start at the constant that predicts best, the hidden
    ones at zero, the weights as Glorot and Bengio (2010). A subclass names its network, which encodes the rows of
    users, or with `over_items` the columns of items.

    The network reads and predicts ratings in units of a quarter of their range, which is 1 where they go from 1 to 5,
    and entries to be ranked (`unobserved_weight` > 0) in units of their root mean square, 1 where all are 1. So
    penalties and step sizes suit any scale: ratings times 20 give predictions times 20. `loss` is in these units.
    """

    capabilities: ClassVar[Capabilities] = replace(Autoencoder.capabilities, rates=True, ranks_with="unobserved_weight")
    search_space = spaces.RATING
    over_items: ClassVar[bool] = False
    """Items' columns are encoded in place of users' rows: once trained the model is its `ItemFactors`."""
    rows_type: ClassVar[type[Rows]] = Rows

    weight_decay: NotNegative = 200.0
    """λ of λ/2 · Σ w² over all weight matrices, on the scale of the squared error summed over all training ratings, as
    if these went from 1 to 5."""
    unobserved_weight: NotNegative = 0.0
    """Weight of the unstored entries as zeros: 0 as in the paper (rating prediction), > 0 to rank for top-N."""
    center: bool | None = None
    """Subtract the mean training rating from the stored ratings and add it back to predictions. None: yes if the rows
    of users are encoded, unless `unobserved_weight` is above 0; no if those of items are."""
    biases: NotNegative | None = None
    """Subtract user and item biases too (`Biases`), shrunk by so many ratings: it helps where ratings are few."""
    normalize: bool = False
    """Bring all rows to one Euclidean length, that of a typical training row, before they are encoded. Better on
    MovieLens-1M than as in the paper, where long rows saturate the sigmoids and short ones hardly move them."""
    clip: bool = True
    """Clip predicted ratings to the range of the training ratings."""
    cold_rating: float | Literal["middle"] | None = None
    """Prediction for a user or an item without training ratings. `middle`: the middle of the scale, as in the paper,
    whose 3 it is of 1 to 5; None: the mean and the biases; or a rating."""
    epochs: Count = 40
    batch_size: Count = 256
    schedule: Schedule = "cosine"

    def _check_params(self) -> None:
        super()._check_params()
        if self.unobserved_weight and self.center:
            raise ConfigError(
                "center=True with unobserved_weight > 0 would count every unstored entry as an average rating; "
                "leave center=None"
            )
        if self.biases is not None and self.center is False:
            raise ConfigError("biases are measured from the mean rating: leave center=None, or set biases=None")
        if self.biases is not None and self.unobserved_weight:
            counted = "would count every unstored entry as exactly the rating that the biases predict"
            raise ConfigError(f"biases with unobserved_weight > 0 {counted}; set biases=None")

    def _fit(self, matrix: sp.csr_matrix, options: FitOptions) -> Record:
        least, most = self.rating_range_ = extremes(matrix)
        if not self.unobserved_weight and least == most:
            what = f"all {matrix.nnz:,} stored values are {least:g}: a loss over stored entries has nothing to learn"
            raise DataError(f"{what} from them; set unobserved_weight > 0 to rank items, or use MultVAE or EASE")
        mean = total(matrix) / matrix.nnz
        self.mean_ = mean if self._centers() else 0.0
        self.biases_ = None if self.biases is None else Biases.of(matrix, float(self.biases))
        self.unit_ = self._unit(matrix)
        cold = sum(self.rating_range_) / 2.0 if self.cold_rating == "middle" else self.cold_rating
        self.cold_rating_ = mean if cold is None else float(cold)
        record = super()._fit(matrix, options)
        if not (self.over_items or self.unobserved_weight):
            self._forget_untrained_items()
        return record

    def _unit(self, matrix: sp.csr_matrix) -> float:
        if self.unobserved_weight:
            return float(np.sqrt(squares(matrix) / matrix.nnz)) or 1.0
        return (self.rating_range_[1] - self.rating_range_[0]) / 4.0

    def _forget_untrained_items(self) -> None:
        """Score items without training entries by their predicted rating, where a masked loss never moved weights."""
        untrained = torch.from_numpy(self.popularity_ == 0).to(self._device)
        output = self.network_.output
        with torch.no_grad():
            output.weight[untrained] = 0.0
            output.bias[untrained] = (self.cold_rating_ - self.mean_) / self.unit_ if self.biases_ is None else 0.0

    def _centers(self) -> bool:
        if self.center is None and self.biases is None:
            return not (self.over_items or self.unobserved_weight)
        return self.center is not False

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        values = matrix.data if self.biases_ is None else self.biases_.residuals(matrix).data
        if self.unit_ != 1.0:
            values = values / np.float32(self.unit_)
        if self.biases_ is None and self.mean_:
            values = values - np.float32(self.mean_ / self.unit_)
        return sp.csr_matrix((values, matrix.indices, matrix.indptr), shape=matrix.shape)

    def reads_shards(self) -> bool:
        """True if the rows are those of users and nothing is fitted to all of them before."""
        return not self.over_items and self.biases is None

    def _training_rows(self, matrix: Matrix) -> Rows:
        prepared = self._prepared(matrix)
        if self.over_items:  # the one place that turns to items × users
            prepared = sp.csr_matrix(prepared.T)  # type: ignore[union-attr]
        return self.rows_type(prepared, pick_device(self.device))

    def _n_in(self) -> int:
        return self.n_users_ if self.over_items else self.n_items_

    def _refresh(self, rows: Rows) -> None:
        if self.over_items:
            with torch.inference_mode():
                items = self.network_.decode(encode_rows(self.network_.encode, rows))
            self._keep_factors(items)

    def _keep_factors(self, items: Tensor) -> None:
        # λ/2 ‖w‖² beside the sum of squares: eq. 2 for one row of the output layer
        weights = self.weight_decay / 2, self.unobserved_weight
        self.factors_ = ItemFactors.of(self.network_, items, self.user_counts_, *weights)

    def _keeps_embeddings(self) -> bool:
        return self.keep_users and not self.over_items  # else the output layer holds the training users

    def _scale(self) -> Scale:
        return TypicalLength() if self.normalize else as_stored

    def _initialize(self, network: Any, rows: Rows) -> None:
        # Ratings lie far from zero, and Adam moves a bias by one learning rate a step: start it at the best constant.
        stored, everything = rows.nnz, len(rows) * rows.n_columns
        weight = stored + self.unobserved_weight * (everything - stored)
        nn.init.constant_(network.output.bias, rows.total() / weight)
        if self.normalize:
            network.scale.length.fill_(rows.typical_length())

    def _decay(self, rows: Rows) -> float:
        return self.weight_decay / len(rows)

    def _objective(self, network: Any, rows: Rows) -> Objective | Alternation:
        return squared_error(network, self.unobserved_weight)

    def _scores(self, histories: Histories, userid: Indices, items: Indices | None, out: Tensor | None) -> Tensor:
        users, user_offsets = self._users(histories, userid)
        table, item_offsets = self._items()
        if items is not None:
            index = torch.from_numpy(items).to(table.device)
            table, item_offsets = table[index], None if item_offsets is None else item_offsets[index]
        scores = affine(users, table, item_offsets, out=out)
        if user_offsets is not None:
            scores.add_(user_offsets[:, None])
        if self.unit_ != 1.0:
            scores.mul_(self.unit_)
        if self.biases_ is not None:
            of_users = torch.from_numpy(self._user_biases(self.biases_, histories, userid)).to(scores)
            of_items = torch.from_numpy(self.biases_.items if items is None else self.biases_.items[items]).to(scores)
            scores.add_(of_users[:, None]).add_(of_items)
        return scores

    def _decode(self, codes: Tensor) -> Tensor:
        if self.biases_ is not None:
            raise UnsupportedError(
                f"{type(self).__name__} with biases has no scores of a code alone, since the user's bias is one of the "
                "history; fit it with biases=None"
            )
        return super()._decode(codes).mul_(self.unit_)

    def _graph(self) -> nn.Module:
        if self.biases_ is None:
            return CenteredScores(self.network_, self.mean_, self.unit_)
        items = torch.from_numpy(self.biases_.items)
        return UnbiasedScores(self.network_, self.biases_.mean, self.biases_.damping, items, self.unit_)

    def _ratings(self, userid: Indices, histories: Histories, rows: Indices, items: Indices) -> Floats:
        users, user_offsets = self._users(histories, userid)
        table, item_offsets = self._items()
        raw = pair_products(users, table, rows, items)
        for offsets, index in ((item_offsets, items), (user_offsets, rows)):
            if offsets is not None:
                raw += offsets.detach().cpu().numpy()[index]
        base: Floats | np.float32 = np.float32(self.mean_)
        if self.biases_ is not None:
            base = self.biases_.base(self._user_biases(self.biases_, histories, userid)[rows], items)
        ratings = raw * np.float32(self.unit_) + base
        if self.clip:
            ratings = np.clip(ratings, *self.rating_range_)
        if self.biases_ is None or self.cold_rating is not None:
            base = np.float32(self.cold_rating_)
        counts = self._per_user(userid, self.user_counts_, None if histories is None else np.diff(histories.indptr))
        cold = (counts[rows] == 0) | (self.popularity_[items] == 0)
        return np.where(cold, base, ratings).astype(np.float32)

    def _users(self, histories: Histories, userid: Indices) -> tuple[Tensor, Tensor | None]:
        """Return (n, d) vectors p_u and, where offsets belong to users, their (n,) offsets.

        The score of user u for item i is p_u · q_i plus an offset: one of the vectors is the last hidden layer, which a
        row of ratings gives, the other one a row of the output layer, whose bias is the offset.
        """
        if not self.over_items:
            return self.network_.decode(self._codes(histories, userid)), None
        prepared = None if histories is None else self._prepare(histories)
        known = userid if histories is None else np.where(self._known(userid), userid, -1)
        return self.factors_.of_users(known, prepared)

    def _items(self) -> tuple[Tensor, Tensor | None]:
        """Return (n_items, d) vectors q_i and, where offsets belong to items, their (n_items,) offsets."""
        if self.over_items:
            return self.factors_.items, None
        return self.network_.output.weight, self.network_.output.bias

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        new = np.full(histories.shape[0], -1)
        return self._users(histories, new)[0] if self.over_items else super()._encode(histories)

    def _user_vectors(self) -> Tensor:
        return self.factors_.users if self.over_items else super()._user_vectors()

    def _item_vectors(self) -> Tensor:
        return self._items()[0]

    def _user_biases(self, biases: Biases, histories: Histories, userid: Indices) -> npt.NDArray[Any]:
        return self._per_user(userid, biases.trained, None if histories is None else biases.users(histories))

    def _per_user(self, userid: Indices, trained: npt.NDArray[Any], new: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        """Return trained[u] of users who are scored by what training learned of them, and of others what is `new`."""
        if new is not None and len(known := np.flatnonzero(self._known(userid))):
            new[known] = trained[userid[known]]
        return trained[userid] if new is None else new

    def _state(self) -> dict[str, Any]:
        return {name: getattr(self, f"{name}_") for name in ("mean", "cold_rating", "rating_range", "unit")}

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        arrays = super()._arrays()
        if self.over_items:
            arrays["item_vectors"] = self.factors_.items.cpu().numpy()
        if self.biases_ is not None:
            arrays |= {"item_biases": self.biases_.items, "user_biases": self.biases_.trained}
        return arrays

    def _restore(self, arrays: Stored, state: Mapping[str, Any]) -> None:
        self.mean_, self.cold_rating_ = number(state, "mean"), number(state, "cold_rating")
        self.unit_ = number(state, "unit", Positive) if "unit" in state else 1.0  # as before there were units
        low, high = self.rating_range_ = number(state, "rating_range", tuple[float, float])
        if low > high:
            raise BundleError(f"the smallest rating cannot be {low} and the largest {high}")
        self.biases_ = None
        if self.biases is not None:
            of_items = arrays.array("item_biases", (self.n_items_,), np.float64)
            of_users = arrays.array("user_biases", (self.n_users_,), np.float64)
            self.biases_ = Biases(self.mean_, of_items, float(self.biases), of_users)
        super()._restore(arrays, state)
        if self.over_items:
            width = self.network_.output.weight.shape[1]
            items = torch.from_numpy(arrays.array("item_vectors", (self.n_items_, width))).to(self._device)
            self._keep_factors(items)


OVER_ITEMS: Final = replace(
    AutoRec.capabilities,
    decodes=False,  # scores add the user's offset, which is no part of the code
    scores_known_users=True,
    new_users="fold-in",
    popularity_fallback=True,
    weighs_users=False,
    no_graph=NO_GRAPH_OF_EQUATIONS,
)
"""What autoencoders of items' columns, which have no row per user, can do."""


@register
class UAutoRec(AutoRec):
    """U-AutoRec: each user's row of ratings is encoded and rebuilt; r̂_ui = (W · g(V r⁽ᵘ⁾ + μ) + b)_i.

    Predicts ratings, and with `unobserved_weight` > 0 ranks for top-N: a masked loss alone never learns which items a
    user would choose. Serves any user from their history.

    Sedhain et al. 2015, §2 (the user-based form of eq. 2), with f the identity and g the sigmoid. Differs from the
    paper in: Adam with a cosine schedule in place of resilient propagation, which the authors' configuration of it has;
    ratings are centered (`center`), without which a sigmoid layer over raw ratings saturates on long rows; predictions
    are clipped (`clip`).
    """

    search_space = spaces.AUTOREC

    hidden: Count = 500
    """Width of the hidden layer; 500 in the paper."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return AutoRecNetwork(n_in, self.hidden, generator, scale=self._scale())


@register
class IAutoRec(AutoRec):
    """I-AutoRec: each item's column of ratings is encoded and rebuilt; r̂_ui = (W · g(V r⁽ⁱ⁾ + μ) + b)_u.

    Sedhain et al. 2015, eq. 2 and 3, with f the identity and g the sigmoid; item i has the vector h_i = g(V r⁽ⁱ⁾ + μ)
    and user u the row w_u and offset b_u of the output layer. New users fold in (`ItemFactors`), so that the best
    potential users of an item and the best items of a user come from the same two tables. A training user is rated by
    their trained row as long as their history is that of training, any other user from the history.

    Differs from the paper in: Adam with a cosine schedule in place of L-BFGS, which the authors' configuration of it
    has; predictions are clipped (`clip`).
    """

    over_items = True
    capabilities = OVER_ITEMS
    search_space = spaces.AUTOREC

    hidden: Count = 500
    """Width of the hidden layer; 500 in the paper."""

    def _network(self, n_in: int, generator: torch.Generator) -> nn.Module:
        return AutoRecNetwork(n_in, self.hidden, generator, scale=self._scale())

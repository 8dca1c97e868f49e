"""Between histories and codes: the verbs of models that embed users, score embeddings, or generate histories."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys import memory
from recsys.errors import DataError, UnsupportedError
from recsys.models.learner import Floats, Learner
from recsys.models.selection import ROW_BLOCK
from recsys.nn.likelihoods import row_log_likelihood
from recsys.nn.losses import LikelihoodName
from recsys.params import check_count, random_generator
from recsys.sparse import Rows

Doubles = npt.NDArray[np.float64]
Rng = int | np.random.Generator | None
"""A seed, a generator, or None for fresh entropy."""


class Distribution(NamedTuple):
    """p(x|z): how a model says that a row came from the scores of a code (`recsys.nn.likelihoods`)."""

    likelihood: LikelihoodName
    unobserved_weight: float
    """Of the unstored entries, as zeros, in a Gaussian likelihood."""


class Codes(Learner):
    """What models do with codes z: `encode` gives, `decode` scores them; generative ones have q(z|x), p(z) and p(x|z).

    A model gives the hooks of what it declares: `_encode` for `encodes`, `_decode` for `decodes`; `_posterior`,
    `_draw_posterior` and `_distribution` for `generates`; `_draw_prior` and `_log_prior` for `has_prior`.
    """

    def _encode(self, histories: sp.csr_matrix) -> Tensor:
        """Return (n_rows, d) embeddings of users, from their histories alone."""
        raise NotImplementedError

    def _decode(self, codes: Tensor) -> Tensor:
        """Return the (n, n_items) scores of codes, in memory that may be kept."""
        raise NotImplementedError

    def _posterior(self, histories: sp.csr_matrix) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of q(z|x), each (n_rows, d)."""
        raise NotImplementedError

    def _draw_posterior(self, histories: sp.csr_matrix, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return a draw z of q(z|x) for each row, (n_rows, d), and log q(z|x), (n_rows,)."""
        raise NotImplementedError

    def _distribution(self) -> Distribution:
        """Return what p(x|z) is, given the scores of z."""
        raise NotImplementedError

    def _draw_prior(self, n: int, rng: np.random.Generator) -> Tensor:
        """Return (n, d) draws of p(z)."""
        raise NotImplementedError

    def _log_prior(self, codes: Tensor) -> Tensor:
        """Return log p(z) of each code, (n,)."""
        raise NotImplementedError

    def _prepare(self, matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Check and transform the histories before the model reads them, in training and in prediction alike."""
        return matrix

    def why_no_prior(self) -> str:
        """Return why this model, with these hyperparameters, has no prior p(z) of codes; empty where it has one."""
        return "" if self.capabilities.has_prior else "has no prior of codes"

    def encode(self, user_items: Any) -> Floats:
        """Return (n_rows, d) embeddings of users, from their histories alone; an UnsupportedError if it has none."""
        histories = self._read("encodes", user_items)
        with torch.inference_mode():
            return self._encode(histories).cpu().numpy()

    def decode(self, codes: npt.ArrayLike) -> Floats:
        """Return the scores by which `recommend` ranks for users with these codes, (n, n_items) float32.

        `decode(encode(user_items))` are the scores of these histories; a mean of codes, or a point between two, may be
        decoded as well. The most popular items that users without a usable history get are not among them.

        Args:
            codes: (n, d) numbers, as `encode` gives them.

        Raises:
            UnsupportedError: the model has no codes, or its scores read more than the code.
            DataError: another shape, values that are not finite, or more scores than memory holds.
        """
        self._check_fitted()
        self._require("decodes")
        given = self._codes_of(codes)
        n = len(given)
        memory.require(4 * n * self.n_items_, f"the scores of {n:,} codes need", "decode some at a time")
        scores = np.empty((n, self.n_items_), np.float32)
        with torch.inference_mode():
            for start in range(0, n, ROW_BLOCK):
                rows = slice(start, start + ROW_BLOCK)
                scores[rows] = self._decode(torch.from_numpy(given[rows])).cpu().numpy()
        return scores

    def posterior(self, user_items: Any) -> tuple[Floats, Floats]:
        """Return mean and log-variance of q(z|x) for each history, both (n_rows, d); the mean is what `encode` gives.

        Input dropout is off. `HVamp` gives those of z_1 given the mean of z_2, then those of z_2.

        Raises:
            UnsupportedError: the model has no posterior.
        """
        histories = self._read("generates", user_items)
        with torch.inference_mode():
            mean, log_variance = self._posterior(histories)
        return mean.cpu().numpy(), log_variance.cpu().numpy()

    def draw_posterior(self, user_items: Any, rng: Rng = None) -> tuple[Floats, Doubles]:
        """Return a draw z ~ q(z|x) for each history, (n_rows, d), and log q(z|x), (n_rows,).

        Raises:
            UnsupportedError: the model has no posterior.
        """
        histories = self._read("generates", user_items)
        with torch.inference_mode():
            codes, log_density = self._draw_posterior(histories, random_generator(rng))
        return codes.cpu().numpy(), log_density.double().cpu().numpy()

    def draw_prior(self, n: int, rng: Rng = None) -> Floats:
        """Return `n` draws z ~ p(z), (n, d).

        Raises:
            UnsupportedError: the model has no prior, or one that reads the user's history, as RecVAE's does.
        """
        self._check_fitted()
        self._require_prior()
        n = check_count("n", n, DataError)
        with torch.inference_mode():
            return self._draw_prior(n, random_generator(rng)).cpu().numpy()

    def log_prior(self, codes: npt.ArrayLike) -> Doubles:
        """Return log p(z) of each code, (n,), in nats.

        Raises:
            UnsupportedError, DataError: as `draw_prior` and `decode`.
        """
        self._check_fitted()
        self._require_prior()
        with torch.inference_mode():
            return self._log_prior(torch.from_numpy(self._codes_of(codes))).double().cpu().numpy()

    def distribution(self) -> Distribution:
        """Return what p(x|z) is; an UnsupportedError if the model has none."""
        self._require("generates")
        return self._distribution()

    def log_conditional(self, user_items: Any, codes: npt.ArrayLike) -> Doubles:
        """Return log p(x|z) of row r given codes[r], (n_rows,), in nats.

        - multinomial: Σ_i x_i log π_i(z), the entries in one given order and their number given: the coefficient
          N! / Π_i x_i!, the same for all z, is left out.
        - bernoulli: Σ_i x_i log p_i + (1 − x_i) log(1 − p_i), over all items.
        - gaussian: Σ_i log N(x_i; f_i(z), 1/w_i), over all items; w_i is 1 at stored entries, `unobserved_weight`
          elsewhere.

        Raises:
            UnsupportedError: the model has no likelihood of histories.
            DataError: a history that the likelihood cannot have made, or codes of another shape.
        """
        self._check_fitted()
        distribution = self.distribution()
        histories, given = self._matrix(user_items), self._codes_of(codes)
        if histories.shape[0] != len(given):
            raise DataError(f"codes must hold one row per history ({histories.shape[0]}), got {len(given)}")
        found = np.empty(len(given))
        rows = max(1, min(ROW_BLOCK, _SCORES // self.n_items_))
        with torch.inference_mode():
            for start in range(0, len(given), rows):
                part = slice(start, start + rows)
                scores = self._decode(torch.from_numpy(given[part]))
                batch = Rows(self._prepare(histories[part]), scores.device).slice(0, rows)
                found[part] = row_log_likelihood(scores, batch, *distribution).cpu().numpy()
        return found

    def _read(self, ability: str, user_items: Any) -> sp.csr_matrix:
        """Return checked histories; refuse what the class does not declare."""
        self._check_fitted()
        self._require(ability)
        return self._matrix(user_items)

    def _require_prior(self) -> None:
        self._require("generates")
        if reason := self.why_no_prior():
            raise UnsupportedError(
                f"{type(self).__name__} {reason}; use MultVAE, HVamp, AAE, or VAE with prior='standard' or 'vamp'"
            )

    def _codes_of(self, codes: npt.ArrayLike) -> Floats:
        """Return checked codes in a fresh float32 array."""
        width = self._encode(sp.csr_matrix(np.zeros((1, self.n_items_), np.float32))).shape[1]
        try:
            numbers = np.asarray(codes)
        except ValueError as error:
            raise DataError(f"codes must be numbers, (n, {width}) as encode gives them: {error}") from None
        if numbers.dtype.kind not in "iuf":
            raise DataError(f"codes must be real numbers, (n, {width}) as encode gives them, got {numbers.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite then, and refused below
            given = np.array(numbers, dtype=np.float32, order="C")
        if given.ndim != 2 or given.shape[1] != width:
            raise DataError(f"codes must be (n, {width}) numbers as encode gives them, got shape {given.shape}")
        if not np.isfinite(given).all():
            raise DataError(f"codes hold {int((~np.isfinite(given)).sum())} values that are NaN or infinite")
        return given


_SCORES = 2**24
"""Scores held at a time: 64 MiB, and as much again while a likelihood is computed."""

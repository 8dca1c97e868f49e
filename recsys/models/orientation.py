"""The two orientations of an AutoRec: its network encodes the rows of users, or the columns of items."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor

from recsys.models.autoencoder import encode_rows
from recsys.models.fold_in import fold_in
from recsys.models.selection import Indices
from recsys.sparse import Rows

Arrays = Mapping[str, npt.NDArray[Any]]


class Orientation(ABC):
    """What depends on whether a network encodes the ratings of users or those of items.

    Either way the score of user u for item i is p_u · q_i plus an offset: one of the two vectors is the last hidden
    layer, which a row of ratings gives; the other one is a row of the output layer, whose bias is the offset.
    """

    centers: ClassVar[bool]
    """Whether ratings are centered where the model rates and `center` is None."""
    user_vectors: Tensor
    """(n_users, d) vectors of the training users, which `similar_users` compares."""

    def __init__(self, ridge: float, unobserved_weight: float) -> None:
        """Take the terms of the objective that a new user's output row would have.

        Args:
            ridge: weight of the squared norm of the row.
            unobserved_weight: weight of the squared error of an unstored entry.
        """
        self.ridge, self.unobserved_weight = ridge, unobserved_weight

    @staticmethod
    @abstractmethod
    def rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
        """Return the rows to encode, of a users × items matrix."""

    @staticmethod
    @abstractmethod
    def width(n_users: int, n_items: int) -> int:
        """Return the number of columns of those rows."""

    @abstractmethod
    def refresh(self, network: Any, rows: Rows) -> None:
        """Score by the network as it is now; `rows` are those of training."""

    @abstractmethod
    def keep_users(self, rows: Rows) -> None:
        """Keep `user_vectors` after training."""

    @abstractmethod
    def encode(self, histories: sp.csr_matrix) -> Tensor:
        """Return (n_rows, d) embeddings of users, from their histories alone."""

    @abstractmethod
    def users(self, known: Indices, histories: sp.csr_matrix | None) -> tuple[Tensor, Tensor | None]:
        """Return (n, d) vectors p_u and, where offsets belong to users, their (n,) offsets.

        Args:
            known: (n,) index of each user who is scored by what training learned of them, -1 for any other.
            histories: (n, n_items) as the network reads them; None where all are known.
        """

    @abstractmethod
    def items(self) -> tuple[Tensor, Tensor | None]:
        """Return (n_items, d) vectors q_i and, where offsets belong to items, their (n_items,) offsets."""

    @abstractmethod
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what a bundle holds beside the network."""

    @abstractmethod
    def restore(self, network: Any, arrays: Arrays) -> None:
        """Score by a network that was read from a bundle, and by what `arrays` gave."""


class OverUsers(Orientation):
    """Users' rows are encoded: any user is served from their history, and an item is a row of the output layer."""

    centers = True

    @staticmethod
    def rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
        return matrix

    @staticmethod
    def width(n_users: int, n_items: int) -> int:
        return n_items

    def refresh(self, network: Any, rows: Rows) -> None:
        self.network = network

    def keep_users(self, rows: Rows) -> None:
        self.user_vectors = encode_rows(self.network.encode, rows).cpu()

    def encode(self, histories: sp.csr_matrix) -> Tensor:
        return encode_rows(self.network.encode, Rows(histories, self.network.output.bias.device))

    def users(self, known: Indices, histories: sp.csr_matrix | None) -> tuple[Tensor, Tensor | None]:
        if histories is None:
            code = self.user_vectors[torch.from_numpy(known)].to(self.network.output.bias.device)
        else:
            code = self.encode(histories)
        return self.network.decode(code), None

    def items(self) -> tuple[Tensor, Tensor | None]:
        return self.network.output.weight, self.network.output.bias

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"embeddings": self.user_vectors.numpy()}

    def restore(self, network: Any, arrays: Arrays) -> None:
        self.network = network
        self.user_vectors = torch.from_numpy(arrays["embeddings"])


class OverItems(Orientation):
    """Items' columns are encoded, which once trained is a factor model: a user is a row w_u, b_u of the output layer.

    A user whom training never saw gets the w and b that minimize the same objective over their own history with the
    item vectors fixed: a ridge regression in closed form.
    """

    centers = False

    @staticmethod
    def rows(matrix: sp.csr_matrix) -> sp.csr_matrix:
        return sp.csr_matrix(matrix.T)  # the one place that turns to items × users

    @staticmethod
    def width(n_users: int, n_items: int) -> int:
        return n_users

    def refresh(self, network: Any, rows: Rows) -> None:
        with torch.inference_mode():
            vectors: Tensor = network.decode(encode_rows(network.encode, rows))
        self._take(network, vectors)

    def keep_users(self, rows: Rows) -> None:
        """Do nothing: the output layer holds the training users."""

    def encode(self, histories: sp.csr_matrix) -> Tensor:
        return self.users(np.full(histories.shape[0], -1), histories)[0]

    def users(self, known: Indices, histories: sp.csr_matrix | None) -> tuple[Tensor, Tensor | None]:
        device = self.item_vectors.device
        index = torch.from_numpy(known.clip(0)).to(device)
        vectors, offsets = self.user_vectors[index], self.user_offsets[index]
        others = np.flatnonzero(known < 0)
        if histories is not None and len(others):
            ones = self.item_vectors.new_ones(len(self.item_vectors), 1)
            solved = fold_in(
                torch.cat([self.item_vectors, ones], 1),
                histories[others],
                ridge=self.ridge,
                unobserved_weight=self.unobserved_weight,
                free_columns=1,
            )
            rows = torch.from_numpy(others).to(device)
            vectors[rows], offsets[rows] = solved[:, :-1], solved[:, -1]
        return vectors, offsets

    def items(self) -> tuple[Tensor, Tensor | None]:
        return self.item_vectors, None

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"item_vectors": self.item_vectors.cpu().numpy()}

    def restore(self, network: Any, arrays: Arrays) -> None:
        self._take(network, torch.from_numpy(arrays["item_vectors"]).to(network.output.bias.device))

    def _take(self, network: Any, item_vectors: Tensor) -> None:
        self.item_vectors = item_vectors
        self.user_vectors = (
            network.output.weight.detach()
        )  # made once: a kernelized layer makes it anew at each reading
        self.user_offsets = network.output.bias.detach()

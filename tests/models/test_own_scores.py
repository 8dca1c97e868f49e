"""Scores of a model of one's own may be a view of what it learned, of another layout, or of another type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from tests.contract import ratings


@dataclass(kw_only=True, eq=False)
class Counts(Recommender):
    """Recommends by how many have an item."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        encodes=False, keeps_users=False, compares_items=False, personal=False, no_graph="its scores are a table"
    )
    how: str = "expanded"

    def _fit(self, matrix, options):
        self.counts_ = np.bincount(matrix.indices, minlength=matrix.shape[1]).astype(np.float32)

    def _scores(self, histories, userid, items, out):
        counts = torch.from_numpy(self.counts_)
        counts = counts if items is None else counts[torch.from_numpy(items)]
        table = counts.expand(len(userid), -1)
        return {"expanded": table, "double": table.double(), "turned": table.T.contiguous().T}[self.how]

    def _arrays(self) -> dict[str, Any]:
        return {"counts": self.counts_}

    def _restore(self, arrays, state):
        self.counts_ = arrays["counts"]


@pytest.mark.parametrize("how", ["expanded", "double", "turned"])
@pytest.mark.parametrize("users", [[0], [0, 1, 2]])
def test_masks_are_not_written_into_what_was_learned(how, users):
    matrix = ratings()
    model = Counts(how=how).fit(matrix, show_progress=False)
    learned = model.counts_.copy()
    ids, scores = model.recommend(users, matrix[users], N=20)
    np.testing.assert_array_equal(model.counts_, learned)
    for user, row, values in zip(users, ids, scores, strict=True):
        allowed = np.setdiff1d(np.arange(20), matrix[user].indices)
        expected = allowed[np.argsort(-learned[allowed], kind="stable")]
        assert row[row >= 0].tolist() == expected.tolist()
        assert values[: len(expected)].tolist() == learned[expected].tolist()

"""Log-likelihoods of rows against loops over their entries, and against the losses that sum them."""

import numpy as np
import pytest
import scipy.stats
import torch

from recsys.nn.likelihoods import row_log_likelihood
from recsys.nn.losses import likelihood
from tests.contract import batch_of, random_cells

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(7, 9))


def brute(cells, name, weight):
    stored, x = ~np.isnan(cells), np.nan_to_num(cells)
    if name == "multinomial":
        return (x * scipy.special.log_softmax(SCORES, 1)).sum(1)
    if name == "bernoulli":
        p = scipy.special.expit(SCORES)
        return (x * np.log(p) + (1 - x) * np.log1p(-p)).sum(1)
    return scipy.stats.norm.logpdf(x, SCORES, np.where(stored, 1.0, weight**-0.5)).sum(1)


@pytest.mark.parametrize(
    ("name", "weight"), [("multinomial", 1.0), ("bernoulli", 1.0), ("gaussian", 1.0), ("gaussian", 0.2)]
)
def test_each_row_has_the_likelihood_of_a_loop(name, weight):
    cells = random_cells(RNG, 7, 9, 0.4, counts=name == "multinomial")
    if name == "bernoulli":
        cells = np.where(np.isnan(cells), np.nan, RNG.integers(0, 2, cells.shape))
    batch = batch_of(cells)
    found = row_log_likelihood(torch.from_numpy(SCORES), batch, name, weight)
    np.testing.assert_allclose(found.numpy(), brute(cells, name, weight), rtol=1e-12)
    # The losses leave out what does not depend on the scores.
    other = torch.from_numpy(RNG.normal(size=SCORES.shape))
    loss, one = likelihood(name, weight), torch.eye(9, dtype=torch.float64)
    zero = torch.zeros(9, dtype=torch.float64)
    change = loss(other, one, zero, batch) - loss(torch.from_numpy(SCORES), one, zero, batch)
    expected = (found - row_log_likelihood(other, batch, name, weight)).sum()
    torch.testing.assert_close(change, expected)

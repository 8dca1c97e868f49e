"""Blocks of columns against the dense rows, and the gradients of an output layer against autograd."""

import numpy as np
import pytest
import torch

from recsys.nn.blocks import OutputGradients, column_blocks
from tests.contract import batch_of, random_cells

CELLS = random_cells(np.random.default_rng(4), 5, 7, 0.4)


@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("width", [1, 3, 7, 50, None])
def test_blocks_cover_all_columns_and_stored_entries(width, density):
    cells = random_cells(np.random.default_rng(4), 5, 7, density)
    blocks = list(column_blocks(batch_of(cells), width, cpu_width=2))
    widths = [block.stop - block.start for block, _, _ in blocks]
    assert set(widths[:-1]) <= {width or 2}
    assert sum(widths) == 7
    parts = []
    for (_, places, values), n in zip(blocks, widths, strict=True):
        part = np.full(5 * n, np.nan)
        part[places.numpy()] = values.numpy()
        parts.append(part.reshape(5, n))
    np.testing.assert_array_equal(np.hstack(parts), cells)


@pytest.mark.parametrize(
    "wanted", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
@pytest.mark.parametrize("buffered", [False, True])
def test_gradients_built_in_blocks_are_those_of_autograd(wanted, buffered):
    generator = torch.Generator().manual_seed(0)
    shapes = (5, 2), (7, 2), (7,), (5, 7)
    hidden, weight, bias, slopes = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    leaves = [leaf.clone().requires_grad_() for leaf in (hidden, weight, bias)]
    ((leaves[0] @ leaves[1].T + leaves[2]) * slopes).sum().mul(3.0).backward()
    if buffered:
        weight.gradient_buffer = torch.full_like(weight, torch.nan)
    gradients = OutputGradients(hidden, weight, bias, wanted)
    for block, _, _ in column_blocks(batch_of(CELLS), 3):
        gradients.add(block, slopes[:, block], hidden, weight)
    scaled = list(gradients.scaled(torch.tensor(3.0, dtype=torch.float64), weight))
    if buffered and wanted[1]:
        assert scaled[1] is None
        scaled[1] = weight.grad
    for found, leaf, want in zip(scaled, leaves, wanted, strict=True):
        if want:
            torch.testing.assert_close(found, leaf.grad)
        else:
            assert found is None

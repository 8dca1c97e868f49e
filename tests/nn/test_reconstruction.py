"""Reconstructed rows through another network's first layer, whole and in parts, against dense arithmetic."""

import numpy as np
import pytest
import torch

from recsys.nn.losses import project_means

DRAW = np.random.default_rng(0)
SHAPES = {"hidden": (7, 3), "weight": (11, 3), "bias": (11,), "table": (11, 4)}
MEANS = {
    "multinomial": lambda logits: torch.softmax(logits, 1),
    "bernoulli": torch.sigmoid,
    "gaussian": lambda logits: logits,
}


@pytest.mark.parametrize("memory", [2**28, 2 * 11 * 8, 1], ids=["whole", "two rows at a time", "one row at a time"])
@pytest.mark.parametrize("name", MEANS)
def test_values_and_gradients_are_those_of_the_dense_rows(name, memory):
    arrays = {key: torch.from_numpy(DRAW.normal(size=shape)) for key, shape in SHAPES.items()}
    weights = torch.from_numpy(DRAW.normal(size=(7, 4)))
    found = []
    for dense in (True, False):
        leaves = {key: array.clone().requires_grad_() for key, array in arrays.items()}
        if dense:
            means = MEANS[name](leaves["hidden"] @ leaves["weight"].T + leaves["bias"])
            value = torch.nn.functional.normalize(means, dim=1) @ leaves["table"]
        else:
            value = project_means(*leaves.values(), name, memory=memory)
        (value * weights).sum().backward()
        found.append([value.detach(), *(leaf.grad for leaf in leaves.values())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_rows_in_parts_do_not_use_the_global_generator():
    arrays = [torch.from_numpy(DRAW.normal(size=shape)).requires_grad_() for shape in SHAPES.values()]
    before = torch.get_rng_state()
    project_means(*arrays, "multinomial", memory=1).sum().backward()
    assert torch.equal(before, torch.get_rng_state())

"""The GPU gives what the CPU gives. Run with `pytest -m gpu` on a machine that has one."""

import numpy as np
import pytest
import torch

from recsys.models import MODELS
from recsys.nn.losses import MultinomialNLL, masked_squared_error
from recsys.nn.products import sampled_products, weighted_rows
from recsys.nn.sampled import SampledMultinomialNLL
from recsys.ranking import select
from recsys.sparse import Batch, Rows
from tests.contract import new_model, ratings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
MATRIX = ratings(n_users=300, n_items=170, density=0.1)


def batches() -> tuple[Batch, Batch]:
    order = torch.randperm(300, generator=torch.Generator().manual_seed(1))
    here, there = (next(iter(Rows(MATRIX, device).batches(order.split(128)))) for device in ("cpu", "cuda"))
    return here, there


def test_batches_cut_there_are_those_cut_here():
    for one, other in zip(*batches_fields(), strict=True):
        assert other.is_cuda
        assert torch.equal(one, other.cpu())


def batches_fields():
    return tuple([b.rows, b.offsets, b.columns, b.values, b.segments, *vars(b.by_column).values()] for b in batches())


class EveryThird:
    """A draw that is the same on all devices."""

    def draw(self, batch, noise):
        items = torch.arange(0, 170, 3, device=batch.columns.device)
        return items, torch.full(items.shape, 1.1, device=items.device)


@pytest.mark.parametrize("density", [-1.0, 2.0], ids=["dense", "sampled"])
@pytest.mark.parametrize("name", ["rows", "sampled", "squares", "whole", "likelihood", "likelihood in parts", "drawn"])
def test_losses_and_gradients_agree(name, density, monkeypatch):
    from recsys.nn import products

    monkeypatch.setattr(products, "DENSE_ABOVE", {"cpu": density, "cuda": density})
    calls = {
        "rows": lambda h, w, b, batch: weighted_rows(w, batch, batch.values).square().sum() + h.sum() + b.sum(),
        "sampled": lambda h, w, b, batch: sampled_products(h, w, batch).square().sum() + b.sum(),
        "squares": masked_squared_error,
        "whole": lambda *leaves: masked_squared_error(*leaves, unobserved_weight=0.2),
        "likelihood": MultinomialNLL(),
        "likelihood in parts": MultinomialNLL(memory=170 * 4 * 50),
        "drawn": lambda *parts: SampledMultinomialNLL(EveryThird())(*parts, noise=None),
    }
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in ((128, 16), (170, 16), (170,))]
    found = []
    for batch in batches():
        leaves = [torch.from_numpy(array).to(batch.values.device).requires_grad_() for array in arrays]
        value = calls[name](*leaves, batch)
        value.backward()
        found.append([value.detach().cpu(), *(leaf.grad.cpu() for leaf in leaves)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


STILL = {"dropout": 0.0, "noise": 0.0, "level": 0.0, "probes": None}
"""Options with which a model that has them draws nothing."""
SAMPLING = {"MultVAE", "MacridVAE", "ClusteringAE", "FeatureConsistentAE", "AAE", "VAEGAN", "ALI"}
"""Models whose training draws whatever the options: from the generators of two devices."""


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if hasattr(model, "device")])
def test_models_trained_there_score_as_those_trained_here(name):
    changes = {option: value for option, value in STILL.items() if hasattr(MODELS[name], option)}
    if MODELS[name].capabilities.trains_by_epochs:
        changes |= {"epochs": 3, "batch_size": 64}
    here, there = (
        new_model(name, **changes, device=device).fit(MATRIX, show_progress=False) for device in ("cpu", "cuda")
    )
    users = np.arange(300)
    tables = []
    for model in (here, there):
        ids, scores = model.recommend(users, MATRIX, N=170, filter_already_liked_items=False)
        table = np.empty((300, 170), dtype=np.float32)
        np.put_along_axis(table, ids.astype(np.int64), scores, axis=1)
        tables.append(table)
    if name not in SAMPLING:
        np.testing.assert_allclose(*tables, rtol=0.01, atol=0.01 * np.abs(tables[0]).max())
    assert MODELS[name].capabilities.encodes is False or there.encode(MATRIX).shape[0] == 300


@pytest.mark.parametrize("how", ["popularity", "uniform", "batch"])
def test_a_model_of_drawn_items_trains_there(how):
    model = new_model("MultVAE", device="cuda", negatives=20, negatives_from=how).fit(MATRIX, show_progress=False)
    assert model.record_.epochs[-1]["loss"] < model.record_.epochs[0]["loss"]
    assert all(torch.isfinite(weight).all() for weight in model.network_.state_dict().values())


def test_selection_breaks_ties_by_index_there_too():
    scores = torch.randint(0, 9, (50, 3000), generator=torch.Generator().manual_seed(0)).float()
    for one, other in zip(select(scores.clone(), 20), select(scores.cuda(), 20), strict=True):
        assert torch.equal(one, other.cpu())


def test_a_model_saved_there_loads_here(tmp_path):
    model = new_model("MultDAE", device="cuda", epochs=1).fit(MATRIX, show_progress=False)
    model.save(tmp_path / "model")
    again = MODELS["MultDAE"].load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(again.encode(MATRIX), model.encode(MATRIX), rtol=1e-3, atol=1e-4)

"""Properties from histories: figures by hand, the head's loss, who is drawn, what is refused."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from sklearn.metrics import f1_score, roc_auc_score

from recsys.analysis import ANALYSES, Subject, labels, labels_findings
from recsys.analysis import heads as heads_module
from recsys.analysis.heads import Headed, beside, classification, predicted, trained
from recsys.analysis.labels import auc, macro_f1
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.models import AAE, CDAE, EASE, MultDAE
from recsys.sparse import Rows
from recsys.splits import hold_out_ratings
from recsys.training import Loss
from tests.analysis.test_segments import data
from tests.contract import batch_of

OPTIONS = {"epochs": 10, "batch_size": 30, "learning_rate": 0.02, "latent": 6}


@pytest.fixture(scope="module")
def fitted():
    interactions, group = data()
    model = MultDAE(**OPTIONS).fit(interactions, show_progress=False)
    return model, interactions, pd.Series(group, index=interactions.users.ids())


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(heads_module, "STEPS", 10)


@pytest.mark.usefixtures("_short")
def test_planted_groups_are_told_by_every_method(fitted):
    model, interactions, values = fitted
    table = labels(model, interactions, values, shares=(0.2, 1.0), draws=2)
    assert table["method"].tolist() == ["raw", "frozen", "fine-tuned", "joint"] * 2
    assert table["users"].tolist() == [15] * 4 + [72] * 4  # a fifth of each group is for testing
    assert (table["metric"] == "f1").all()
    assert (table["value"] == table["f1"]).all()
    assert (table["value"] > 0.9).all()
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    raw = table.set_index(["share", "method"])["value"]
    for row in table[table["method"] != "raw"].to_dict("records"):
        assert row["gain"] == pytest.approx(row["value"] - raw[row["share"], "raw"])
    again = labels(model, interactions, values, shares=(0.2, 1.0), draws=2)
    pd.testing.assert_frame_equal(again, table)


def test_labels_at_random_are_not_told(fitted):
    model, interactions, values = fitted
    random = pd.Series(np.random.default_rng(1).permutation(90) % 2, index=values.index)
    table = labels(model, interactions, random, shares=(1.0,), methods=("raw", "frozen"))
    assert table["auc"].between(0.15, 0.85).all()
    assert (table["low"] < 0.6).all()
    assert (table["high"] > 0.4).all()


def test_the_labels_of_test_users_are_not_read(fitted):
    """The figures of a test in which the labels are turned around are those of the opposite guess."""
    model, interactions, values = fitted
    two, test = values.where(values < 2).dropna(), [f"u{i:03}" for i in range(0, 60, 4)]
    turned = two.copy()
    turned[test] = 1 - turned[test]
    options = {"shares": (1.0,), "methods": ("raw", "frozen"), "test": test}
    one, other = (labels(model, interactions, given, **options) for given in (two, turned))
    np.testing.assert_allclose(one["auc"], 1.0 - other["auc"], atol=1e-9)
    assert one["users"].tolist() == [45, 45]


def test_missing_values_are_left_out_and_two_of_a_class_are_drawn(fitted):
    model, interactions, values = fitted
    some = values.astype(object).copy()
    some.iloc[::3] = None
    table = labels(model, interactions, some, shares=(0.01, 1.0), methods=("raw",))
    assert table["users"].tolist() == [6, 48]


def test_figures_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    for classes in (2, 4):
        target = rng.integers(0, classes, 60)
        found = rng.dirichlet(np.ones(classes), 60).round(1)  # with ties
        found /= found.sum(1, keepdims=True)
        if classes == 2:
            expected = roc_auc_score(target, found[:, 1])
        else:
            expected = np.mean([roc_auc_score(target == k, found[:, k]) for k in range(classes)])
        assert auc(found, target) == pytest.approx(expected)
        guess = found.argmax(1)
        score = f1_score(target, guess, average="macro", labels=range(classes), zero_division=0)
        assert macro_f1(found, target) == pytest.approx(score)


def test_the_loss_of_head_and_model_is_that_of_dense_arithmetic():
    cells = np.where(np.random.default_rng(0).random((6, 5)) < 0.5, 1.0, np.nan)
    rows = Rows(sp.csr_matrix(np.nan_to_num(cells).astype(np.float32)))
    network = MultDAE(latent=3)._network(5, torch.Generator().manual_seed(0))
    head = np.random.default_rng(1).normal(size=(2, 3)), np.array([0.1, -0.2])
    headed = Headed(network, head).double()
    target, weights = torch.tensor([0, -1, 1, 1, -1, 0]), torch.tensor([0.5, 2.0], dtype=torch.float64)
    part = classification(headed, target, weights)
    batch = batch_of(cells)
    logits = network.encode(batch) @ headed.head.weight.T + headed.head.bias
    marked = [0, 2, 3, 5]
    expected = -sum(weights[target[i]] * torch.log_softmax(logits, 1)[i, target[i]] for i in marked)
    assert part(batch, 0, None).total.item() == pytest.approx(expected.item())
    own = lambda batch, step, noise: Loss(network.output(network.encode(batch)).square().sum(), len(batch))  # noqa: E731
    both = beside(own, part, rows, 3.0, 4)(batch, 0, None)
    scaled = own(batch, 0, None).total * 6 / np.nansum(cells) + 3.0 * 6 / 4 * expected
    assert both.total.item() == pytest.approx(scaled.item())
    assert both.parts["entropy"].item() == pytest.approx(expected.item())


@pytest.mark.usefixtures("_short")
def test_a_trained_head_leaves_the_model_as_it_was(fitted):
    model, interactions, values = fitted
    before = {name: tensor.clone() for name, tensor in model.network_.state_dict().items()}
    head = np.zeros((3, 6)), np.zeros(3)
    target = np.where(np.arange(90) % 2, values.to_numpy(), -1)
    for joint in (False, True):
        headed = trained(model, interactions.matrix, target, head, setting=1e-3, joint=joint, seed=0)
        found = predicted(headed, model, interactions.matrix)
        assert found.shape == (90, 3)
        np.testing.assert_allclose(found.sum(1), 1.0)
        moved = headed.network.state_dict()
        assert not torch.equal(moved["input.weight"], before["input.weight"])
        assert torch.equal(moved["output.weight"], before["output.weight"]) is not joint
    for name, tensor in model.network_.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_what_cannot_work_is_refused(fitted):
    model, interactions, values = fitted
    with pytest.raises(
        DataError, match=r"2 of the 92 labeled users have no interactions here, such as 'x', 'y'; leave"
    ):
        labels(model, interactions, pd.concat([values, pd.Series([0, 1], index=["x", "y"])]))
    with pytest.raises(DataError, match=r"none of the 2 users of the labels is known: they are like 7, 8, known ones"):
        labels(model, interactions, pd.Series([0, 1], index=[7, 8]))
    with pytest.raises(DataError, match="names 1 users twice, such as 'u000'"):
        labels(model, interactions, pd.concat([values, values[:1]]))
    with pytest.raises(DataError, match="the labels have one value only, '1'; there is nothing to predict"):
        labels(model, interactions, values * 0 + 1)
    with pytest.raises(DataError, match="all labels are missing"):
        labels(model, interactions, values.astype(object).where(values > 5, None))
    rare = values.copy()
    rare.iloc[:2] = 7
    with pytest.raises(DataError, match="the value '7' has 1 users to learn from, at least 2 are needed; leave it out"):
        labels(model, interactions, rare)
    with pytest.raises(DataError, match="must be a Series of values by user id, got dict"):
        labels(model, interactions, dict(values))
    with pytest.raises(ConfigError, match="methods must be of raw, frozen, fine-tuned, joint, got 'frosen'"):
        labels(model, interactions, values, methods=("frosen",))
    with pytest.raises(ConfigError, match="shares must be above 0 and at most 1"):
        labels(model, interactions, values, shares=(0.0,))
    with pytest.raises(ConfigError, match="test must be a share above 0 and below 1"):
        labels(model, interactions, values, test=1.5)


@pytest.mark.parametrize(
    ("model", "method", "message"),
    [
        (EASE(), "frozen", "EASE has no embeddings of users; use a model"),
        (EASE(), "joint", "EASE has no encoder of users' rows to train a head on; use MultDAE"),
        (CDAE(**OPTIONS), "fine-tuned", "CDAE learns a vector of each training user beside its encoder"),
        (AAE(epochs=1, hidden=8, latent=4, discriminator=(4,)), "joint", "parts of the network of AAE take turns"),
    ],
)
@pytest.mark.filterwarnings("ignore:the (discriminator|codes) of")
def test_models_without_what_it_takes_are_refused(fitted, model, method, message):
    _, interactions, values = fitted
    model.fit(interactions, show_progress=False)
    with pytest.raises(UnsupportedError, match=message):
        labels(model, interactions, values, methods=(method,))


@pytest.mark.usefixtures("_short")
def test_the_section_of_the_page(fitted, monkeypatch):
    monkeypatch.setattr(labels_findings, "SHARES", (1.0,))
    _, interactions, values = fitted
    split = hold_out_ratings(interactions, test=0.2, validation=0.0, seed=0)
    model = MultDAE(**OPTIONS).fit(split.train, show_progress=False)
    users = pd.DataFrame({"group": values, "alone": np.arange(90)})
    users.loc["stranger"] = [1, 91]
    found = ANALYSES["labels"].findings(Subject(model=model, split=split, users=users))
    assert set(found.tables["labels"]["label"]) == {"group"}
    assert found.metrics["labels_group_raw_100"] > 0.9
    assert any("1 users of the table have no training entries" in part for part in found.content)
    with pytest.raises(UnsupportedError, match="labels need columns of users"):
        ANALYSES["labels"].findings(Subject(model=model, split=split))
    with pytest.raises(UnsupportedError, match="no column of the users has 2 to 20 values with 20 users each: alone"):
        ANALYSES["labels"].findings(Subject(model=model, split=split, users=users[["alone"]]))

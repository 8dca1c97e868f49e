"""Networks whose tables of items lean on features in training: arithmetic, new items, checkpoints, bundles, errors."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import recsys
from recsys import Validation, memory, splits
from recsys.errors import BundleError, ConfigError, DataError
from recsys.models import MultDAE, MultVAE, WithFeatures, leaning
from recsys.models.leaning import Support
from recsys.models.new_items import ByVectors
from recsys.nn.item_features import is_leaning, lean_on_features, lent, stand_alone
from recsys.sparse import Rows
from tests.contract import CASES, interrupt, ratings
from tests.models.test_new_items import NEW, PARITY, SIZE, histories, world

NAMES = ["MultVAE", "MultDAE"]
FEATURES = sp.random(20, 7, 0.3, format="csr", random_state=0, dtype=np.float32)
TRAINED = np.arange(20) % 4 > 0


def inside(name, **changes):
    return {"name": name, **CASES[name], **changes}


def whole(name="MultVAE", **changes):
    options = {key: changes.pop(key) for key in ("strength", "min_count", "columns") if key in changes}
    return WithFeatures(model=inside(name, **changes), in_training=True, **{"min_count": 1, **options})


def without(data, some):
    return data.select(~np.isin(data.matrix.indices, some))


@pytest.fixture(scope="module")
def data():
    return world()


def network(name="MultVAE", seed=0):
    model = {"MultVAE": MultVAE, "MultDAE": MultDAE}[name](**CASES[name])
    made = model._network(20, torch.Generator().manual_seed(seed))
    lean_on_features(made, Rows(FEATURES), torch.from_numpy(TRAINED))
    for layer, what in ((made.input, "weight"), (made.output, "weight"), (made.output, "bias")):
        torch.nn.init.normal_(
            getattr(layer.parametrizations, what)[0].shared, generator=torch.Generator().manual_seed(1)
        )
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_its_own_plus_features_times_what_all_share(name):
    leaning, plain = network(name).eval(), {"MultVAE": MultVAE, "MultDAE": MultDAE}[name](**CASES[name])
    own = plain._network(20, torch.Generator().manual_seed(0))
    dense, known = torch.from_numpy(FEATURES.toarray()), torch.from_numpy(TRAINED)
    for layer in ("input", "output"):
        shared = getattr(leaning, layer).parametrizations.weight[0].shared
        expected = getattr(own, layer).weight * known[:, None] + dense @ shared
        torch.testing.assert_close(getattr(leaning, layer).weight, expected)
    weight, bias = lent(leaning)
    torch.testing.assert_close(weight, leaning.output.parametrizations.weight[0].shared.detach())
    mean = own.output.bias[known].mean()
    expected = torch.where(known, own.output.bias, mean) + dense @ bias
    torch.testing.assert_close(leaning.output.bias, expected)


def test_what_it_learned_stays_when_it_stands_alone():
    leaning = network().eval()
    rows = Rows(ratings(6, 20, 0.3)).slice(0, 6)
    with torch.no_grad():
        before = leaning.output(leaning.decode(leaning.encode(rows)))
        stand_alone(leaning)
        after = leaning.output(leaning.decode(leaning.encode(rows)))
    assert torch.equal(before, after)
    assert not is_leaning(leaning)
    assert {name for name, _ in leaning.named_parameters()} == {
        name for name, _ in MultVAE(**CASES["MultVAE"])._network(20, torch.Generator()).named_parameters()
    }


def test_features_learn_from_entries_of_known_items_alone():
    """An item without entries teaches nothing, neither as an input nor as an answer that is never right."""
    leaning = network().train()
    model = MultVAE(**CASES["MultVAE"])
    model.n_users_ = 6
    cells = ratings(6, 20, 0.3).toarray() * TRAINED
    rows = Rows(sp.csr_matrix(cells, dtype=np.float32))
    rows.slice(0, 6)
    loss = model._objective(leaning, rows)(rows.slice(0, 6), 0, torch.Generator().manual_seed(0))
    loss.total.backward()
    only_new = (FEATURES[~TRAINED].getnnz(0) > 0) & (FEATURES[TRAINED].getnnz(0) == 0)
    lone = np.flatnonzero(only_new)
    for layer, what in ((leaning.input, "weight"), (leaning.output, "weight"), (leaning.output, "bias")):
        table = getattr(layer.parametrizations, what)
        assert table[0].shared.grad.abs().sum() > 0
        assert not table[0].shared.grad[lone].any()
        assert not table.original.grad[~torch.from_numpy(TRAINED)].any()


@pytest.mark.parametrize("name", NAMES)
def test_new_items_are_recommended_to_those_who_like_their_kind(name, data):
    some = np.arange(0, SIZE, 5)
    model = whole(name, epochs=40).fit(without(data, some), show_progress=False)
    assert isinstance(model.derived_, ByVectors)
    np.testing.assert_array_equal(model.new_, some)
    parity = np.array([int(id.removeprefix("i")) % 2 for id in model.items_.ids()])
    ids, _ = model.recommend(np.arange(SIZE), without(data, some), N=2, items=some)
    assert np.mean(parity[ids[:, 0]] == np.arange(SIZE) % 2) > 0.9
    more = model.with_items(NEW)
    place = {id: more.items_.codes([id])[0] for id in NEW["item_id"]}
    for which in (0, 1):
        ids, _ = more.recommend(-1, histories(more, which), N=more.n_items_, filter_already_liked_items=False)
        found = ids.tolist()
        assert found.index(place[f"new {PARITY[which]}"]) < found.index(place[f"new {PARITY[1 - which]}"])
        assert place["nothing known"] not in found


def test_without_a_remainder_a_new_item_has_what_features_lend(data):
    some = np.arange(0, SIZE, 5)
    model = whole(strength=1e6, epochs=5).fit(without(data, some), show_progress=False)
    rows = model._described()[1][some]
    found = rows @ model.model_.lent_.weight.numpy()
    center = model.model_.network_.output.weight.detach().numpy()[model._trained()].mean(0)
    expected = (found - center) * model.trust_ + center
    np.testing.assert_allclose(model.derived_.table.numpy(), expected, atol=1e-4)
    # As columns of the network too, to which they are nothing else.
    whole_table = model.model_.network_.output.weight.detach().numpy()
    np.testing.assert_allclose(whole_table[some], rows @ model.model_.lent_.weight.numpy(), atol=1e-6)


def test_a_bundle_answers_as_before_and_takes_more_items(data, tmp_path):
    model = whole(epochs=5).fit(without(data, np.arange(0, SIZE, 5)), show_progress=False)
    model.save(tmp_path / "m")
    again = recsys.load(tmp_path / "m")
    for one in (again, again.with_items(NEW)):
        expected = model if one is again else model.with_items(NEW)
        history = histories(one, 0)
        for left, right in zip(one.recommend(-1, history, N=9), expected.recommend(-1, history, N=9), strict=True):
            np.testing.assert_array_equal(left, right)
    lent_ = model.model_.lent_
    model.model_.lent_ = lent_._replace(weight=lent_.weight[1:], bias=lent_.bias[1:])
    model.save(tmp_path / "wrong")
    with pytest.raises(BundleError, match="its network must lean on the features that it reads"):
        recsys.load(tmp_path / "wrong")


@pytest.mark.parametrize("epoch", [2, 4])
def test_a_killed_fit_goes_on_bit_for_bit(data, tmp_path, epoch):
    train = without(data, np.arange(0, SIZE, 5))
    expected = whole(epochs=4).fit(train, show_progress=False)
    interrupt(whole(epochs=4), train, tmp_path / "c", epoch=epoch)
    found = whole(epochs=4).fit(train, show_progress=False, checkpoint=tmp_path / "c")
    arrays = found.learned_arrays()
    assert "parts.0.lent.weight" in arrays
    for name, array in expected.learned_arrays().items():
        np.testing.assert_array_equal(arrays[name], array)


def test_epochs_are_chosen_by_what_new_items_gain(data):
    split = splits.cold_items(data, test=0.2, validation=0.2, seed=1)
    validation = Validation(split.validation, "ndcg@3")
    model = whole(epochs=8).fit(split.train, show_progress=False, validation=validation)
    values = [entry["ndcg@3"] for entry in model.record_.epochs[:-1]]
    assert len(values) == 8
    assert len(set(values)) > 1
    refit = model.for_refit()
    assert refit.in_training
    again = refit.fit(split.train, show_progress=False)
    for name, array in model.model_.learned_arrays().items():
        np.testing.assert_array_equal(again.model_.learned_arrays()[name], array)


def test_a_bare_matrix_has_nothing_to_lean_on():
    matrix = ratings(30, 20)
    model = whole(epochs=2).fit(matrix, show_progress=False)
    plain = MultVAE(**{**CASES["MultVAE"], "epochs": 2}).fit(matrix, show_progress=False)
    np.testing.assert_array_equal(model.recommend(0, matrix[0])[0], plain.recommend(0, matrix[0])[0])
    assert model._lent() is None


def test_what_cannot_lean_is_refused(data, monkeypatch):
    with pytest.raises(ConfigError, match=r"EASE has no tables of items that can lean .* use one of MultVAE, MultDAE"):
        WithFeatures(model="EASE", in_training=True).fit(data, show_progress=False)
    with pytest.raises(ConfigError, match="in_training: with negatives"):
        whole(negatives=5).fit(data, show_progress=False)
    fitted = MultVAE(**{**CASES["MultVAE"], "epochs": 1}).fit(data, show_progress=False)
    with pytest.raises(ConfigError, match="this MultVAE is fitted already"):
        WithFeatures(model=fitted, in_training=True).fit(data, show_progress=False)
    monkeypatch.setenv(memory.VARIABLE, "0.000001")
    with pytest.raises(
        DataError, match=r"MultVAE that leans on 7 features of 20 items needs, .* leave out in_training"
    ):
        leaning.require_memory(MultVAE(**CASES["MultVAE"]), Support(FEATURES, TRAINED))


def test_a_training_with_other_features_is_another_training():
    one, other = Support(FEATURES, TRAINED), Support(FEATURES * np.float32(2), TRAINED)
    assert leaning.identity(one) != leaning.identity(other)
    assert leaning.identity(None) == {}

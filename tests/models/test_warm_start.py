"""Training that begins with the weights of an earlier model: by external ids, for every network; refusals."""

import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import recsys
from recsys.errors import ConfigError, DataError, TrainingError, UnsupportedError
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import MODELS, MultVAE
from recsys.models.autoencoder import Autoencoder
from recsys.models.warm_start import take_weights
from tests.contract import CASES, COMPOSED, new_model, quick, ratings

MATRIX = ratings(30, 20)
NETWORKS = [name for name in CASES if name not in COMPOSED and issubclass(MODELS[name], Autoencoder)]
EARLIER = Interactions(MATRIX, IdMap([f"u{n}" for n in range(30)]), IdMap([f"i{n}" for n in range(20)]))


def tomorrow(seed=0):
    """The same people and things in another order, some gone, some new."""
    rng = np.random.default_rng(seed)
    frame = EARLIER.to_frame()
    frame = frame[~frame["user_id"].isin(["u3", "u4"]) & ~frame["item_id"].isin(["i7"])]
    new = pd.DataFrame(
        {"user_id": ["new", "new", "u1", "u2"], "item_id": ["i1", "brand new", "brand new", "a new one"]}
    )
    return Interactions.from_frame(pd.concat([frame, new.assign(rating=rng.integers(1, 5, 4).astype(np.float32))]))


def began(name, data, start, monkeypatch):
    """The parameters with which training began."""
    seen = {}
    module = recsys.models.autoencoder

    def stop(network, *args, **options):
        seen.update({name: tensor.detach().clone() for name, tensor in network.named_parameters()})
        raise InterruptedError

    monkeypatch.setattr(module, "train", stop)
    with pytest.raises(InterruptedError):
        new_model(name, **quick(MODELS[name])).fit(data, show_progress=False, start=start)
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_known_ids_are_taken_over_and_new_ones_begin_anew(name, monkeypatch):
    start = new_model(name, **quick(MODELS[name])).fit(EARLIER, show_progress=False)
    data = tomorrow()
    warm, cold = began(name, data, start, monkeypatch), began(name, data, None, monkeypatch)
    old = dict(start.network_.named_parameters())
    places = {
        "items": start.items_.codes(data.items.ids(), on_unknown="mark"),
        "users": start.users_.codes(data.users.ids(), on_unknown="mark"),
    }
    sizes = {len(place): which for which, place in places.items()}
    before = {20: "items", 30: "users"}
    assert set(warm) == set(old)
    taken = 0
    for key, tensor in warm.items():
        # The code looks at a network of one item more; here the sizes themselves tell, which no layer has.
        axes = [
            sizes.get(n) if before.get(m) == sizes.get(n) else None
            for n, m in zip(tensor.shape, old[key].shape, strict=True)
        ]
        for index in np.ndindex(*tensor.shape):
            source = [n if axis is None else places[axis][n] for n, axis in zip(index, axes, strict=True)]
            expected = cold[key][index] if min(source, default=0) < 0 else old[key][tuple(source)]
            assert tensor[index] == expected, (key, index)
            taken += min(source, default=0) >= 0
    assert taken


def test_no_layer_has_the_size_of_the_data():
    """Or the test above would take a layer for items."""
    data = tomorrow()
    for name in NETWORKS:
        model = new_model(name, **quick(MODELS[name])).fit(EARLIER, show_progress=False)
        assert not {20, 30, *data.shape} & {8, 16, 4, 6, 5, 2, 3, 9, 1}
        assert model.network_ is not None


def test_a_trained_model_is_ahead_from_the_first_epoch():
    options = {**CASES["MultVAE"], "epochs": 30}
    start = MultVAE(**options).fit(EARLIER, show_progress=False)
    cold = MultVAE(**options).fit(tomorrow(), show_progress=False)
    warm = MultVAE(**{**options, "epochs": 3}).fit(tomorrow(), show_progress=False, start=start)
    assert warm.record_.epochs[0]["loss"] < cold.record_.epochs[0]["loss"]


def test_a_model_may_start_from_itself_and_from_a_file(tmp_path):
    model = MultVAE(**{**CASES["MultVAE"], "epochs": 2}).fit(EARLIER, show_progress=False)
    model.save(tmp_path / "m")
    again = copy.copy(model).fit(EARLIER, show_progress=False, start=recsys.load(tmp_path / "m"))
    itself = model.fit(EARLIER, show_progress=False, start=model)
    for left, right in zip(again.learned_arrays().values(), itself.learned_arrays().values(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_without_ids_rows_are_those_of_the_same_index():
    start = MultVAE(**{**CASES["MultVAE"], "epochs": 2}).fit(MATRIX, show_progress=False)
    model = MultVAE(**CASES["MultVAE"])
    model.n_users_, model.n_items_, model.users_, model.items_ = 33, 20, None, None
    network = model._network(20, torch.Generator())
    take_weights(model, network, start)
    for own, old in zip(network.parameters(), start.network_.parameters(), strict=True):
        assert torch.equal(own, old)


def test_what_is_refused():
    start = MultVAE(**{**CASES["MultVAE"], "epochs": 1}).fit(EARLIER, show_progress=False)
    wider = MultVAE(**{**CASES["MultVAE"], "hidden": 17})
    with pytest.raises(ConfigError, match=r"has another network: .* is \(.*17.*\) here and \(.*16.*\) there"):
        wider.fit(tomorrow(), show_progress=False, start=start)
    with pytest.raises(ConfigError, match="a MultDAE starts from a MultDAE, not a MultVAE"):
        new_model("MultDAE").fit(tomorrow(), show_progress=False, start=start)
    with pytest.raises(UnsupportedError, match="ALS learns anew in every fit"):
        new_model("ALS").fit(EARLIER, show_progress=False, start=start)
    with pytest.raises(DataError, match="without external ids nothing says which is which"):
        MultVAE(**CASES["MultVAE"]).fit(MATRIX, show_progress=False, start=start)
    strangers = replace(EARLIER, items=IdMap([f"x{n}" for n in range(20)]))
    with pytest.raises(DataError, match="knows none of the items"):
        MultVAE(**CASES["MultVAE"]).fit(strangers, show_progress=False, start=start)


def test_a_checkpoint_of_another_start_is_not_continued(tmp_path):
    options = {**CASES["MultVAE"], "epochs": 4}
    starts = [MultVAE(**{**options, "epochs": 1, "seed": seed}).fit(EARLIER, show_progress=False) for seed in (0, 1)]
    whole = MultVAE(**options).fit(EARLIER, show_progress=False, start=starts[0])

    def stop(entry):
        if entry["epoch"] == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        MultVAE(**options).fit(EARLIER, False, start=starts[0], on_epoch=stop, checkpoint=tmp_path / "c")
    with pytest.raises(TrainingError, match=r"belongs to another run \(differs in start\)"):
        MultVAE(**options).fit(EARLIER, False, start=starts[1], checkpoint=tmp_path / "c")
    found = MultVAE(**options).fit(EARLIER, False, start=starts[0], checkpoint=tmp_path / "c")
    for left, right in zip(found.learned_arrays().values(), whole.learned_arrays().values(), strict=True):
        np.testing.assert_array_equal(left, right)

"""Planted profiles are those of their kind."""

import numpy as np
import pytest

import recsys
from recsys.analysis import plant_attack
from recsys.analysis.attacks import ATTACKS
from recsys.errors import ConfigError, DataError, OutOfRangeError
from recsys.ids import IdMap

DATA = recsys.datasets.synthetic(users=300, items=120, interactions=6000, seed=3)
POPULARITY = np.bincount(DATA.matrix.indices, minlength=120)


def profiles(kind, share=0.5, **options):
    found = plant_attack(DATA, kind, share, **options)
    return found, found.interactions.matrix[found.planted]


@pytest.mark.parametrize("kind", ATTACKS)
def test_real_users_stay_and_planted_ones_follow(kind):
    found, made = profiles(kind, 0.1)
    whole = found.interactions
    assert whole.shape == (330, 120)
    assert found.planted.tolist() == [False] * 300 + [True] * 30
    assert (whole.matrix[:300] != DATA.binarized().matrix).nnz == 0
    assert whole.users.ids()[:300].tolist() == DATA.users.ids().tolist()
    assert whole.users.ids()[300:].tolist() == [*range(301, 331)]
    assert (made.data == 1).all()
    assert whole.items == DATA.items
    assert list(whole.titles) == list(DATA.titles)


@pytest.mark.parametrize("kind", ["random", "average", "bandwagon", "segment"])
def test_every_attacker_has_the_target_and_a_real_length(kind):
    found, made = profiles(kind, 0.9, target=77, selected=4)
    assert found.target == 77
    assert made[:, [77]].toarray().all()
    lengths, real = np.diff(made.indptr), np.diff(DATA.matrix.indptr)
    assert set(lengths.tolist()) <= {*real.tolist(), 5}
    assert abs(np.mean(lengths) - np.mean(real)) < 4 * np.std(real) / np.sqrt(len(lengths)) + 1


def test_the_default_target_is_unpopular_and_drawn():
    targets = {plant_attack(DATA, "random", 0.01, seed=seed).target for seed in range(40)}
    assert len(targets) > 15
    assert all(0 < POPULARITY[target] <= np.median(POPULARITY[POPULARITY > 0]) for target in targets)


def test_a_bandwagon_holds_the_most_popular_items():
    _, made = profiles("bandwagon", target=int(np.argmin(POPULARITY)), selected=6)
    top = np.argsort(-POPULARITY, kind="stable")[:6]
    assert made[:, top].toarray().all()


def test_a_segment_holds_the_items_closest_to_the_target():
    _, made = profiles("segment", target=8, selected=5)
    dense = (DATA.matrix.toarray() > 0).astype(float)
    cosine = dense.T @ dense[:, 8] / np.sqrt(np.maximum(dense.sum(0), 1))
    cosine[8] = -1
    assert made[:, np.argsort(-cosine, kind="stable")[:5]].toarray().all()


def test_fillers_are_uniform_or_popular():
    others = np.arange(120) != 50
    for kind, target, low, high in (("random", 50, -0.3, 0.3), ("crawler", None, -0.3, 0.3), ("average", 50, 0.9, 1.0)):
        _, made = profiles(kind, 1.0, target=target)
        times = np.asarray(made.sum(0)).ravel()
        assert low < np.corrcoef(times[others], POPULARITY[others])[0, 1] < high


def test_crawlers_are_longer_than_nearly_all():
    found, made = profiles("crawler", 0.2)
    assert found.target is None
    lengths = np.diff(made.indptr)
    assert lengths.min() >= min(120, int(np.quantile(np.diff(DATA.matrix.indptr), 0.99)))
    assert lengths.max() <= 120


def test_seeds_decide():
    one, again, other = (plant_attack(DATA, "random", seed=seed).interactions.fingerprint() for seed in (1, 1, 2))
    assert one == again != other


def test_ids_of_text_and_others():
    text = recsys.Interactions(DATA.matrix, IdMap([f"u{number}" for number in range(300)]), DATA.items)
    assert plant_attack(text, "random", 0.01).interactions.users.ids()[-1] == "planted-2"
    pairs = recsys.Interactions(DATA.matrix, IdMap([(number, 0) for number in range(300)]), DATA.items)
    with pytest.raises(DataError, match="whole numbers or text"):
        plant_attack(pairs, "random")


def test_bad_arguments():
    with pytest.raises(ConfigError, match="kind must be"):
        plant_attack(DATA, "nuke")
    with pytest.raises(ConfigError, match="share must be"):
        plant_attack(DATA, "random", 0.0)
    with pytest.raises(OutOfRangeError, match="target must be the column of an item, 0 to 119, got 120"):
        plant_attack(DATA, "random", target=120)
    with pytest.raises(DataError, match=r"selected must be below the number of items \(120\)"):
        plant_attack(DATA, "segment", selected=120)
    with pytest.raises(DataError, match="no history"):
        plant_attack(DATA.select(np.zeros(DATA.nnz, bool)), "random")

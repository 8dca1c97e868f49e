"""What known items lose to new ones in common lists, and how far new ones are held back for it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

import recsys
from recsys import Interactions, Validation, evaluate, splits
from recsys.models import EASE, WithFeatures
from recsys.models.new_items import ByWeights
from recsys.models.warm_loss import PATH, Places, level, press, pressed

N_TAGS, N_ITEMS, N_USERS = 40, 600, 900


def tagged(seed=0):
    """Everyone reads of a few subjects, and now and then something else."""
    rng = np.random.default_rng(seed)
    subject = rng.integers(0, N_TAGS, N_ITEMS)
    taste = np.full((N_USERS, N_TAGS), 0.02)
    taste[np.arange(N_USERS)[:, None], [rng.permutation(N_TAGS)[:4] for _ in range(N_USERS)]] = 1.0
    weights = taste[:, subject] * rng.gamma(1.0, 1.0, N_ITEMS)
    chosen = np.argsort(rng.exponential(size=weights.shape) / weights, axis=1)[:, :24]
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(N_USERS), 24), "item_id": chosen.ravel()})
    about = pd.DataFrame({"item_id": np.arange(N_ITEMS), "tags": [[f"t{one}"] for one in subject]})
    return Interactions.from_frame(frame, items=about)


@pytest.fixture(scope="module")
def split():
    return splits.cold_items(tagged(), test=0.3, validation=0.1, entries=0.15, among="all")


def fitted(split, validation=None, **options):
    model = WithFeatures(model={"name": "EASE", "regularization": 30.0}, columns={"tags": "tags"}, **options)
    return model.fit(split.train, show_progress=False, validation=validation)


def lost(model, part, known):
    alone, among = (evaluate(model, part.of_items(known, *only), ("ndcg@20",)) for only in ((known,), ()))
    return 1.0 - among.values["ndcg@20"] / alone.values["ndcg@20"]


def test_known_items_lose_at_most_the_stated_share(split):
    known = np.flatnonzero(np.diff(split.train.matrix.tocsc().indptr))
    new = np.setdiff1d(np.arange(split.train.shape[1]), known)
    free, validation = fitted(split, warm_loss=1.0), Validation(split.validation, "ndcg@20")
    assert free.held_back_ == (1.0, 1.0)
    assert lost(free, split.test, known) > 0.05
    of_new = evaluate(free, split.test.of_items(new), ("recall@20",)).values["recall@20"]
    for given in (None, validation):
        shares = []
        for most in (0.05, 0.01):
            model = fitted(split, given, warm_loss=most)
            assert lost(model, split.test, known) <= most
            shares.append(evaluate(model, split.test.of_items(new), ("recall@20",)).values["recall@20"])
            ours, theirs = (
                one.recommend(np.arange(50), split.train.matrix[:50], N=30, items=new)[0] for one in (free, model)
            )
            np.testing.assert_array_equal(ours, theirs)  # among themselves new items stand as before
        assert of_new > shares[0] > shares[1] > 0.0


def test_a_refit_keeps_what_was_chosen_on_validation(split):
    model = fitted(split, Validation(split.validation, "ndcg@20"))
    assert model.held_back_ in PATH
    assert model.held_back_ != (1.0, 1.0)
    again = model.for_refit().fit(split.train, show_progress=False)
    assert again.held_back_ == model.held_back_
    for one, other in zip(*(m.recommend([0, 1], split.train.matrix[:2], N=20) for m in (model, again)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_bundle_holds_back_as_much(split, tmp_path):
    model = fitted(split)
    model.save(tmp_path / "m")
    again = recsys.load(tmp_path / "m")
    assert again.held_back_ == model.held_back_
    assert again.with_items(pd.DataFrame({"item_id": [9000], "tags": [["t1"]]})).held_back_ == model.held_back_
    bundle = model.to_bundle()
    inside = {name: value for name, value in bundle.state["inside"].items() if name != "held_back"}
    old = WithFeatures._from_bundle(replace(bundle, state={**bundle.state, "inside": inside}), "x")
    assert old.held_back_ == (1.0, 1.0)


def test_scores_beyond_the_last_place_count_by_a_share():
    scores = torch.tensor([[1.0, 2.0, 5.0], [1.0, 2.0, 5.0]])
    at = torch.tensor([[2.0], [-torch.inf]])
    assert pressed(scores, at, 0.5).tolist() == [[1.0, 2.0, 3.5], [1.0, 2.0, 5.0]]
    history = sp.csr_matrix(([1.0], ([0], [24])), shape=(1, 30))
    whole = torch.arange(30.0)[None]
    assert level(whole, torch.arange(25), history).item() == 4.0  # 23 to 4 are twenty; 24 is in the history


def by_hand(known, gains, new, share):
    """Each user's list of known items with and without new ones."""
    total = []
    for own, gain, other in zip(known, gains, new, strict=True):
        moved = [own[-1] + share * (one - own[-1]) if one > own[-1] else one for one in other]
        order = sorted([(-s, 0, g) for s, g in zip(own, gain, strict=True)] + [(-s, 1, 0.0) for s in moved])
        worth = [g / np.log2(place + 2) for place, (_, _, g) in enumerate(order[: len(own)])]
        total.append(sum(worth) / sum(g / np.log2(place + 2) for place, g in enumerate(gain)))
    return 1.0 - np.mean(total)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_loss_is_that_of_lists_made_by_hand(share):
    rng = np.random.default_rng(1)
    known = -np.sort(-rng.random((5, 20)))
    gains, new = known**1.5, rng.random((5, 8)) * 1.2
    discounts = 1.0 / np.log2(np.arange(2, 22))
    worth = 1.0 / (gains * discounts).sum(1)
    places = Places(*map(torch.from_numpy, (known, gains, worth)))
    # Worth is double here, discounts single.
    found = Places(places.scores.float(), places.gains.float(), places.worth.float())
    assert found.lost(torch.from_numpy(new).float(), share) == pytest.approx(
        by_hand(known, gains, new, share), abs=1e-5
    )


def test_a_loss_that_no_share_of_the_excess_prevents_takes_the_trust(split):
    model = EASE(regularization=30.0).fit(split.train, show_progress=False)
    known = np.flatnonzero(np.diff(split.train.matrix.tocsc().indptr))
    high = model.weights_[:, known].amax(dim=1, keepdim=True)  # beyond every known item

    def derive(share):
        return ByWeights((high * share).repeat(1, 30))

    trust, share = press(model, known, derive, split.train.matrix, 0.001)
    assert trust < 1.0
    assert (trust, share) in PATH
    assert press(model, known, derive, split.train.matrix, 1.0) == (1.0, 1.0)

"""Lists under rules are those of looking at everything: nothing forbidden, caps kept, full where they can be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.models import EASE, Popularity
from recsys.rules import Ruled, Rules, bind
from recsys.rules import ruled as module
from tests.rules.worlds import DATA, ITEMS, MODELS, TABLE, USERS, expected, fits, similarity, value_of

FIELDS = {
    "allow": st.sampled_from(
        [
            None,
            "stock > 0",
            "price < 50 and not (brand = 'a')",
            "genres contains 'war' or stock = 2",
            (1, 2, 3, 5, 8, 13, 21, 34, 55),
            tuple(range(0, ITEMS, 2)),
            (7, 999),
        ]
    ),
    "exclude": st.sampled_from([None, "brand = 'b'", "price > 10", (0, 1, 2), tuple(range(30, 36)), ()]),
    "exclude_pairs": st.sampled_from([None, tuple((user, item) for user in range(0, USERS, 3) for item in range(8))]),
    "at_most": st.dictionaries(st.sampled_from(["brand", "genres", "stock"]), st.integers(1, 3), max_size=3),
}
ORDERS = st.one_of(
    st.just({}),
    st.floats(0.1, 1.0).map(lambda weight: {"diversity": weight}),
    st.tuples(st.sampled_from(["genres", "brand"]), st.floats(0.1, 0.95)).map(
        lambda pair: {"calibration": dict([pair])}
    ),
)


@st.composite
def rules_of_any_kind(draw):
    given = {name: draw(values) for name, values in FIELDS.items()}
    return Rules(**given, **draw(ORDERS), pool=draw(st.sampled_from([1, 5, 12, 100])))


def allowed_by(bound):
    return set(range(ITEMS)) if bound.allowed is None else set(np.flatnonzero(bound.allowed).tolist())


def lists(name, bound, n, filters=True, rows=range(USERS)):
    """Lists of users by their rows, with what is excluded for them filtered as jobs do it."""
    rows = np.asarray(rows)
    shown = DATA.matrix[rows] if filters else None
    seen = bound.hide(DATA.users.ids(rows).tolist(), shown)
    return Ruled(MODELS[name], bound).recommend(rows, DATA.matrix[rows], n, seen is not None, seen=seen)


@pytest.mark.filterwarnings("ignore:rules:recsys.errors.DataWarning")
@settings(deadline=None, max_examples=300)
@given(rules_of_any_kind(), st.sampled_from(sorted(MODELS)), st.integers(1, 15), st.booleans())
def test_lists_are_those_of_looking_at_everything(rules, name, n, filters):
    try:
        bound = bind(rules, TABLE, DATA.items)
    except DataError as error:
        assert "allows none" in str(error) or "leaves no item" in str(error)  # noqa: PT017
        return
    allowed, pairs = allowed_by(bound), set(rules.exclude_pairs or ())
    ids, scores = lists(name, bound, n, filters)
    assert ids.shape == scores.shape == (USERS, n)
    whole = MODELS[name].recommend(np.arange(USERS), DATA.matrix, ITEMS, filter_already_liked_items=False)
    for row in range(0, USERS, 3):
        hidden = {item for user, item in pairs if user == row} | (set(DATA.matrix[[row]].indices) if filters else set())
        found = ids[row][ids[row] >= 0].tolist()
        assert not set(found) - allowed
        assert not set(found) & hidden
        assert all(fits(found[:place], item, rules.at_most or {}) for place, item in enumerate(found))
        if len(found) < n:  # then no candidate is left that may be added
            left = allowed - hidden - set(found)
            assert not any(fits(found, item, rules.at_most or {}) for item in left)
        own = dict(zip(whole[0][row].tolist(), whole[1][row].tolist(), strict=True))
        assert [own[item] for item in found] == scores[row][: len(found)].tolist()
        assert_chosen(MODELS[name], row, n, rules, (allowed, hidden), found)


def assert_chosen(model, row, n, rules, candidates, found):
    """The list is that of the greedy choice; where two candidates are worth the same up to rounding, either may be."""
    wanted = expected(model, row, n, rules, *candidates)
    if found != wanted:
        assert rules.diversity or rules.calibration
        place = next(place for place, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1])
        assert _is_tie(model, row, n, rules, candidates, found[: place + 1], wanted[: place + 1])


def _is_tie(model, row, n, rules, candidates, found, wanted):
    from tests.rules.worlds import divergence, ranking, scaled

    pool = dict(scaled(ranking(model, row, *candidates)[: max(n, rules.pool)]))
    chosen = found[:-1]
    if found[-1] not in pool or wanted[-1] not in pool:
        return False

    def worth(item):
        if rules.diversity:
            nearest = max((similarity(model, item, other) for other in chosen), default=0.0)
            return (1 - rules.diversity) * pool[item] - rules.diversity * nearest
        ((column, weight),) = rules.calibration.items()
        history = DATA.matrix[[row]].indices.tolist()
        return (1 - weight) * pool[item] - weight * divergence(history, [*chosen, item], column)

    return abs(worth(found[-1]) - worth(wanted[-1])) < 1e-6


@settings(deadline=None, max_examples=40)
@given(rules_of_any_kind(), st.sampled_from(sorted(MODELS)), st.integers(1, 12))
@pytest.mark.filterwarnings("ignore:rules:recsys.errors.DataWarning")
def test_a_list_does_not_depend_on_who_shares_the_block(rules, name, n):
    try:
        bound = bind(rules, TABLE, DATA.items)
    except DataError:
        return
    ids, scores = lists(name, bound, n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", 3)
        cut = [lists(name, bound, n, rows=rows) for rows in np.array_split(np.arange(USERS), 7)]
    np.testing.assert_array_equal(ids, np.concatenate([block[0] for block in cut]))
    np.testing.assert_array_equal(scores.view(np.uint32), np.concatenate([block[1] for block in cut]).view(np.uint32))


def test_without_a_weight_diversity_and_calibration_change_nothing():
    plain = bind(Rules(allow="stock > 0"), TABLE, DATA.items)
    for rules in (Rules(allow="stock > 0", diversity=0.0), Rules(allow="stock > 0", calibration={"genres": 0.0})):
        for one, other in zip(lists("ALS", plain, 9), lists("ALS", bind(rules, TABLE, DATA.items), 9), strict=True):
            np.testing.assert_array_equal(one, other)


def test_diversity_makes_lists_less_alike_and_calibration_brings_the_mix_nearer():
    from tests.rules.worlds import divergence

    def alike(ids):
        pairs = [(one, other) for row in ids for one in row for other in row if one < other]
        return np.mean([similarity(MODELS["ALS"], one, other) for one, other in pairs])

    def away(ids):
        return np.mean(
            [divergence(DATA.matrix[[row]].indices.tolist(), ids[row].tolist(), "genres") for row in range(38)]
        )

    plain = lists("ALS", bind(Rules(exclude=(0,)), TABLE, DATA.items), 6)[0]
    diverse = [lists("ALS", bind(Rules(diversity=d), TABLE, DATA.items), 6)[0] for d in (0.3, 0.9)]
    assert alike(plain) > alike(diverse[0]) > alike(diverse[1])
    near = [lists("ALS", bind(Rules(calibration={"genres": d}), TABLE, DATA.items), 6)[0] for d in (0.3, 0.9)]
    assert away(plain) > away(near[0]) > away(near[1])


def test_one_user_is_answered_as_in_an_array_of_one():
    ruled = Ruled(MODELS["EASE"], bind(Rules(at_most={"brand": 1}), TABLE, DATA.items))
    ids, scores = ruled.recommend(3, DATA.matrix[[3]], 4)
    many, values = ruled.recommend([3], DATA.matrix[[3]], 4)
    assert ids.tolist() == many[0].tolist()
    assert scores.tolist() == values[0].tolist()
    brands = [value_of(int(item), "brand") for item in ids]
    assert len(brands) == 4


def test_what_is_left_of_nothing_is_an_empty_list():
    bound = bind(Rules(allow=(1, 2, 3)), None, DATA.items).only([5])
    ids, scores = Ruled(MODELS["EASE"], bound).recommend([0, 1], DATA.matrix[:2], 4)
    assert (ids == -1).all()
    assert (scores == -np.finfo(np.float32).max).all()


def test_wrong_calls_are_refused():
    bound = bind(Rules(diversity=0.5), None, DATA.items)
    other = EASE().fit(DATA.take_items(np.arange(20)), show_progress=False)
    with pytest.raises(DataError, match="bound to other items than those of this EASE"):
        Ruled(other, bound)
    with pytest.raises(UnsupportedError, match="Popularity has no similarity of items"):
        Ruled(Popularity().fit(DATA, show_progress=False), bound)
    ruled = Ruled(MODELS["ALS"], bound)
    with pytest.raises(DataError, match=r"user_items must have one row per userid \(2\), got 3 rows"):
        ruled.recommend([0, 1], DATA.matrix[:3])
    with pytest.raises(DataError, match=r"seen must have one row per userid \(2\), got 3 rows"):
        ruled.recommend([0, 1], DATA.matrix[:2], seen=DATA.matrix[:3])
    with pytest.raises(DataError, match="N must be at least 1"):
        ruled.recommend([0], DATA.matrix[:1], 0)
    calibrated = Ruled(MODELS["ALS"], bind(Rules(calibration={"genres": 0.5}), TABLE, DATA.items))
    with pytest.raises(DataError, match="calibration reads the history"):
        calibrated.recommend([0, 1], None, 5, filter_already_liked_items=False)


def test_a_model_without_ids_has_no_rules():
    model = EASE().fit(DATA.matrix, show_progress=False)
    with pytest.raises(DataError, match="does not know those; fit it on Interactions"):
        bind(Rules(allow=(1,)), None, model.items_)


@pytest.mark.parametrize("memory", [1, 2**10])
def test_blocks_of_few_numbers_give_the_same_lists(memory, monkeypatch):
    rules = bind(Rules(at_most={"genres": 1}, calibration={"brand": 0.4}, pool=7), TABLE, DATA.items)
    wanted = lists("EASE", rules, 8)
    monkeypatch.setattr(module, "_NUMBERS", memory)
    for one, other in zip(wanted, lists("EASE", rules, 8), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_table_is_needed_for_columns():
    with pytest.raises(ConfigError, match="the rules read 'brand' of the items, and there is no table of items"):
        bind(Rules(at_most={"brand": 2}), None, DATA.items)

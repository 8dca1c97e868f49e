"""What every model promises: implicit's contract, and new users, embeddings and best users on top."""

import copy
import functools
import inspect
import pickle
import random
from collections.abc import Mapping
from dataclasses import fields, replace
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import scipy.stats
import sklearn.base
import torch
from annotated_types import Ge, Gt, Le, Lt, MinLen
from implicit.evaluation import ranking_metrics_at_k
from implicit.recommender_base import RecommenderBase

import recsys.models
from recsys import models, params, ranking
from recsys.errors import (
    BundleError,
    ConfigError,
    DataError,
    NotFittedError,
    OutOfRangeError,
    TrainingError,
    UnsupportedError,
)
from recsys.evaluation import Validation, evaluate
from recsys.export import ScoreGraph
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import MODELS, autoencoder, base
from recsys.splits import Part
from tests.contract import (
    ABILITIES,
    CASES,
    COMPOSED,
    NO_SCORE,
    checkerboard,
    csr,
    declared,
    fitted,
    interrupt,
    kinds_first,
    new_model,
    observed,
    quick,
    ratings,
    same,
)

SIZE = 20
BOARD = checkerboard(SIZE)
PARITY = np.arange(SIZE) % 2
TASTES = ratings(n_users=24, n_items=15, density=0.3)
UNSEEN = ratings(n_users=6, n_items=15, density=0.25, seed=1)
TAGS = {"tags": np.array([["ab"[n % 2], "cde"[n % 3]] for n in range(15)] + [None], dtype=object)[:15]}
KINDS = {"kind": np.array(["ab"[n % 2] for n in range(24)], dtype=object)}


def that(**abilities):
    """Parametrise over the models with these abilities."""
    names = [n for n in CASES if all(getattr(MODELS[n].capabilities, k) == v for k, v in abilities.items())]
    assert names
    return pytest.mark.parametrize("name", names)


every_model = that()
networks = pytest.mark.parametrize(
    "name", [n for n in CASES if MODELS[n].capabilities.trains_by_epochs and "epochs" in params.hints(MODELS[n])]
)
"""Those with epochs of their own, which the parts of a blend have."""


@functools.cache
def on_board(name):
    """Fitted once; no test may change it."""
    return fitted(name)


@functools.cache
def on_tastes(name):
    """The same on ratings, where scores have no ties by design."""
    return fitted(name, TASTES)


def learned(model):
    return {key: value for key, value in vars(model).items() if key.endswith("_")}


def equal_models(one, other, histories):
    """Whether two models answer alike, to the last bit."""
    users = np.arange(histories.shape[0])
    same(one.recommend(users, histories, N=7), other.recommend(users, histories, N=7))
    same(one.recommend(-1 - users, histories, N=7), other.recommend(-1 - users, histories, N=7))


def close(found, expected):
    """Scores equal within float32 rounding; ids may change places only where scores are that close."""
    np.testing.assert_allclose(found[1], expected[1], rtol=2e-5, atol=2e-5)
    moved = found[0] != expected[0]
    assert moved.mean() < 0.2
    np.testing.assert_array_equal(np.sort(found[0]), np.sort(expected[0]))


def test_every_model_is_tested():
    assert CASES.keys() == MODELS.keys()
    assert set(MODELS) <= set(recsys.models.__all__)


@every_model
def test_it_is_a_model_of_implicit(name):
    assert issubclass(MODELS[name], RecommenderBase)
    assert not MODELS[name].__abstractmethods__


# Capabilities


@every_model
def test_a_model_does_what_it_declares_and_nothing_else(name):
    assert observed(new_model(name, **quick(MODELS[name]))) == declared(MODELS[name])


TOYS = [
    (name, ability)
    for name in ("MultVAE", "EASE", "Popularity", "UAutoRec", "ALS")
    for ability in ABILITIES
    if ability != "keeps_users" or name not in ("MultVAE", "UAutoRec")  # these keep no users unless they declare it
]


@pytest.mark.parametrize(("name", "ability"), TOYS)
def test_a_wrong_declaration_is_found(name, ability):
    cls = MODELS[name]
    wrong = replace(cls.capabilities, **{ability: not getattr(cls.capabilities, ability)})
    toy = type("Toy", (cls,), {"capabilities": wrong})
    assert observed(toy(**{**CASES[name], **quick(cls)})) != declared(toy)


@every_model
def test_how_new_users_are_scored_is_as_declared(name):
    can = MODELS[name].capabilities
    assert can.new_users == "history" or (can.scores_known_users and can.encodes)
    assert can.ranks_with is None or can.rates


@every_model
def test_it_says_why_it_predicts_no_ratings(name):
    can = MODELS[name].capabilities
    if not can.rates:
        assert new_model(name).why_no_ratings().endswith("predicts no ratings")
        return
    reason = f"with {can.ranks_with} above 0 ranks items and predicts no ratings"
    assert new_model(name, **{can.ranks_with: 0.2}).why_no_ratings() == reason
    assert new_model(name, **{can.ranks_with: 0.0}).why_no_ratings() == ""


@every_model
def test_its_graph_gives_its_scores_unless_it_declares_why_there_is_none(name):
    model, reason = on_tastes(name), MODELS[name].capabilities.no_graph
    if reason:
        with pytest.raises(UnsupportedError, match=f"^{name} cannot be exported to ONNX: {reason}; export .* in its"):
            ScoreGraph(model)
        return
    histories = sp.vstack([UNSEEN, sp.csr_matrix((1, 15), dtype=np.float32)]).tocsr()
    ids, scores = model.recommend(np.full(7, -1), histories, N=15, filter_already_liked_items=False)
    with torch.inference_mode():
        table = ScoreGraph(model)(torch.from_numpy(histories.toarray())).numpy()
    found = np.take_along_axis(table, ids.astype(np.int64), axis=1)
    np.testing.assert_allclose(found, scores, rtol=1e-4, atol=1e-4 * np.abs(scores).max())


# Construction and fitting


@every_model
def test_the_constructor_stores_what_it_gets(name):
    values = {field.name: object() for field in fields(MODELS[name])}
    model = MODELS[name](**values)
    assert all(getattr(model, key) is value for key, value in values.items())
    assert vars(model).keys() == values.keys()
    with pytest.raises(TypeError):
        MODELS[name](1)
    with pytest.raises(TypeError):
        MODELS[name](no_such_option=1)


@every_model
def test_every_option_is_read(name):
    """An option that changes nothing would be a promise that nobody keeps."""
    model = new_model(name, **quick(MODELS[name]))
    read = set()

    class Spying(type(model)):
        def __getattribute__(self, key):
            read.add(key)
            return super().__getattribute__(key)

    spy = Spying(**{field.name: getattr(model, field.name) for field in fields(model)})
    with mock.patch.object(Spying, "params", return_value={}):
        spy.fit(TASTES, show_progress=False)
        if MODELS[name].capabilities.rates:
            with mock.patch.object(Spying, "why_no_ratings", return_value=""):  # a tiny model here ranks
                spy.predict(0, TASTES[:1], 0)
    assert {field.name for field in fields(model)} <= read


@every_model
def test_use_before_fit_is_refused(name, tmp_path):
    model, can = new_model(name), MODELS[name].capabilities
    calls = {
        "recommend": lambda: model.recommend(0, BOARD[0]),
        "recommend_users": lambda: model.recommend_users(0, BOARD),
        "similar_items": lambda: model.similar_items(0),
        "similar_users": lambda: model.similar_users(0),
        "save": lambda: model.save(tmp_path / "model"),
    }
    if can.encodes:
        calls["encode"] = lambda: model.encode(BOARD)
        calls["similar_users of histories"] = lambda: model.similar_users(0, user_items=BOARD)
    if can.decodes:
        calls["decode"] = lambda: model.decode(np.zeros((1, 4)))
    if can.generates:
        calls["posterior"] = lambda: model.posterior(BOARD)
        calls["draw_posterior"] = lambda: model.draw_posterior(BOARD)
        calls["draw_prior"] = lambda: model.draw_prior(2)
        calls["log_prior"] = lambda: model.log_prior(np.zeros((1, 4)))
        calls["log_conditional"] = lambda: model.log_conditional(BOARD[:1], np.zeros((1, 4)))
    if can.rates:
        calls["predict"] = lambda: model.predict(0, BOARD[0], 0)
    for call in calls.values():
        with pytest.raises(NotFittedError, match=f"{name} is not fitted; call fit first"):
            call()
    assert not (tmp_path / "model").exists()


@every_model
def test_fit_returns_the_model_and_what_it_learned_ends_in_an_underscore(name):
    model = new_model(name, **quick(MODELS[name]))
    before = dict(vars(model))
    assert model.fit(TASTES, show_progress=False) is model
    assert {key: value for key, value in vars(model).items() if not key.endswith("_")} == before
    assert (model.n_users_, model.n_items_) == TASTES.shape


@every_model
def test_a_second_fit_forgets_the_first(name):
    other = ratings(n_users=9, n_items=11, seed=5)
    users, items = IdMap(range(24)), IdMap(range(15))
    model = fitted(
        name, Interactions(TASTES, users, items, item_columns=TAGS, user_columns=KINDS), **quick(MODELS[name])
    )
    model.fit(other, show_progress=False)
    fresh = fitted(name, other, **quick(MODELS[name]))
    assert learned(model).keys() == learned(fresh).keys()
    assert model.users_ is model.items_ is model.titles_ is None
    equal_models(model, fresh, other)


@every_model
@pytest.mark.parametrize(
    "bad",
    [
        sp.csr_matrix((3, 4), dtype=np.float32),
        csr([[1.0, np.inf]]),
        np.ones((3, 4)),
        pd.DataFrame({"user_id": [1]}),
        None,
    ],
    ids=["nothing stored", "infinite", "dense", "frame", "None"],
)
def test_a_matrix_that_cannot_be_used_leaves_an_unfitted_model(name, bad):
    model = fitted(name, **quick(MODELS[name]))
    with pytest.raises(DataError):
        model.fit(bad, show_progress=False)
    assert not learned(model)
    with pytest.raises(NotFittedError):
        model.recommend(0, BOARD[0])


@every_model
def test_a_fit_that_breaks_off_leaves_an_unfitted_model(name):
    class Interrupt(Exception):
        pass

    def stop(entry):
        raise Interrupt

    model = fitted(name, **quick(MODELS[name]))
    with pytest.raises(Interrupt):
        model.fit(BOARD, show_progress=False, on_epoch=stop)
    assert not learned(model)
    with pytest.raises(NotFittedError):
        model.similar_items(0)


# Hyperparameters


def wrong_values(hint):
    """Values that a type of `recsys.params` does not hold, each just outside."""
    if get_origin(hint) is Annotated:
        kind, *markers = get_args(hint)
        step = 1 if kind is int else 1e-6
        for marker in markers:
            match marker:
                case Gt(gt=bound) | Lt(lt=bound):
                    yield bound
                case Ge(ge=bound):
                    yield bound - step
                case Le(le=bound):
                    yield bound + step
                case MinLen():
                    yield ()
        yield from wrong_values(kind)
    elif get_origin(hint) in (Union, UnionType):
        yield from wrong_values(get_args(hint)[0])
    elif get_origin(hint) is Mapping:
        yield from (3, "nonsense", {"a": "nonsense"})
    elif get_origin(hint) is tuple:
        yield from ((value,) for value in wrong_values(get_args(hint)[0]))
        yield 3
    elif get_origin(hint) is Literal:
        yield from ("nonsense", 1)
    else:
        numbers = {int: (2.5, "a", True), float: ("a", np.nan, np.inf, True)}
        yield from {**numbers, bool: (1, "yes"), str: (1, True), models.Recommender: (1, "EASE", None)}[hint]


@every_model
def test_fit_refuses_values_of_another_type_or_out_of_range(name):
    for option, hint in params.hints(MODELS[name]).items():
        for value in wrong_values(hint):
            model = new_model(name, **{option: value})
            assert getattr(model, option) is value
            with pytest.raises(ConfigError) as refused:
                model.fit(BOARD, show_progress=False)
            expected = params.describe(hint)
            assert str(refused.value) == f"{option} of {name} must be {expected}, got {value!r}"
            assert not learned(model)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("UAutoRec", "hidden", 0),
        ("UAutoRec", "unobserved_weight", -0.1),
        ("UAutoRec", "epochs", 0),
        ("IAutoRec", "batch_size", 0),
        ("IAutoRec", "schedule", "linear"),
        ("MultVAE", "latent", 0),
        ("MultVAE", "hidden", 0),
        ("MultVAE", "dropout", 1.0),
        ("MultVAE", "beta", -0.1),
        ("MultVAE", "anneal_steps", -1),
        ("MultDAE", "latent", 0),
        ("MultDAE", "dropout", -0.1),
        ("MultDAE", "learning_rate", 0.0),
        ("MultDAE", "weight_decay", -1.0),
        ("EASE", "regularization", 0.0),
        ("EASE", "precision", "float16"),
        ("ALS", "factors", 0),
        ("ALS", "iterations", 0),
        ("BPR", "regularization", -1.0),
        ("ItemKNN", "neighbors", 0),
        ("ItemKNN", "similarity", "jaccard"),
    ],
)
def test_fit_refuses_options_out_of_range_by_name(name, option, value):
    with pytest.raises(ConfigError, match=f"{option}.* must "):
        new_model(name, **{option: value}).fit(BOARD, show_progress=False)


def is_limited(hint):
    """Whether a type names a range or choices, or is one whose values are all meant."""
    if get_origin(hint) in (Union, UnionType):
        return all(map(is_limited, get_args(hint)))
    if get_origin(hint) is tuple or (get_origin(hint) is Annotated and get_origin(get_args(hint)[0]) is tuple):
        return any(is_limited(part) for part in get_args(get_args(hint)[0] if get_origin(hint) is Annotated else hint))
    limited = get_origin(hint) in (Annotated, Literal) or hint in (bool, str, NoneType, np.random.Generator)
    return limited or hint == models.Recommender or get_origin(hint) is Mapping  # models, and tables of them


@every_model
def test_each_hyperparameter_has_a_range_or_choices_and_a_meaning(name):
    cls = MODELS[name]
    text, meanings = inspect.getdoc(cls), params.field_docs(cls)
    for option, hint in params.hints(cls).items():
        assert is_limited(hint) or option == "cold_rating", f"{option} of {name} has no range"  # any rating will do
        assert len(meanings.get(option, "")) > 5, f"{option} of {name} has no docstring"
        assert f"{option}: {params.describe(hint)}." in " ".join(text.split())


@every_model
def test_numpys_numbers_will_do(name, tmp_path):
    given = {}
    for option, value in {**CASES[name], **quick(MODELS[name])}.items():
        kinds = {int: np.int64, float: np.float64}
        given[option] = kinds.get(type(value), lambda same: same)(value)
        if isinstance(value, tuple) and option != "parts":
            given[option] = tuple(map(np.int64, value))
    model = MODELS[name](**given).fit(TASTES, show_progress=False)
    assert model.params() == new_model(name, **quick(MODELS[name])).params()
    equal_models(model, fitted(name, TASTES, **quick(MODELS[name])), TASTES)
    model.save(tmp_path / "model")
    assert MODELS[name].load(tmp_path / "model").params() == model.params()


@every_model
def test_scikit_learn_clones_it(name):
    for model in (new_model(name), on_tastes(name)):
        copied = sklearn.base.clone(model)
        assert type(copied) is MODELS[name]
        assert vars(copied) == new_model(name).get_params()
        assert copied.set_params(**copied.get_params()) is copied


# What goes in


def unsorted_array(matrix):
    """A csr_array whose indices fall within each row, all of it the caller's own."""
    array = sp.csr_array(matrix.copy())
    for start, stop in zip(array.indptr[:-1], array.indptr[1:], strict=True):
        array.indices[start:stop] = array.indices[start:stop][::-1].copy()
        array.data[start:stop] = array.data[start:stop][::-1].copy()
    array.has_sorted_indices = False
    return array


FORMATS = {
    "csr_matrix": lambda m: m.copy(),
    "csr_array": lambda m: sp.csr_array(m.copy()),
    "coo_matrix": lambda m: m.tocoo(),
    "coo_array": lambda m: sp.coo_array(m),
    "csc_matrix": lambda m: m.tocsc(),
    "lil_matrix": lambda m: m.tolil(),
    "float64": lambda m: m.astype(np.float64),
    "int32": lambda m: m.astype(np.int32),
    "int64 indices": lambda m: sp.csr_array((m.data, m.indices.astype(np.int64), m.indptr.astype(np.int64)), m.shape),
    "unsorted csr_array": unsorted_array,
}


@pytest.mark.parametrize("name", kinds_first(list(CASES)))
def test_any_format_gives_the_same_model_and_is_not_changed(name):
    reference = fitted(name, TASTES, **quick(MODELS[name]))
    for label, convert in FORMATS.items():
        matrix = convert(TASTES)
        kept = copy.deepcopy(matrix)
        model = fitted(name, matrix, **quick(MODELS[name]))
        equal_models(model, reference, TASTES)
        histories = convert(UNSEEN)
        same(
            reference.recommend(np.full(6, -1), histories, N=5),
            reference.recommend(np.full(6, -1), UNSEEN, N=5),
        )
        for before, after in ((kept, matrix), (convert(UNSEEN), histories)):
            assert type(after) is type(before), label
            for part in ("data", "indices", "indptr", "row", "col", "rows"):
                if hasattr(before, part):
                    one, other = getattr(before, part), getattr(after, part)
                    assert one.dtype == other.dtype, label
                    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True)), label


@every_model
def test_arrays_that_cannot_be_written_will_do(name):
    """Such as those of a memory-mapped matrix."""
    matrix = TASTES.copy()
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    model = fitted(name, matrix, **quick(MODELS[name]))
    reference = fitted(name, TASTES, **quick(MODELS[name]))
    equal_models(model, reference, matrix)
    if MODELS[name].capabilities.encodes:
        assert np.array_equal(model.encode(matrix), reference.encode(TASTES))


@every_model
@pytest.mark.parametrize("shape", [(1, 7), (7, 1), (1, 1), (2, 2)])
def test_one_user_or_one_item_is_enough(name, shape):
    matrix = sp.csr_matrix(np.ones(shape, dtype=np.float32))
    model = fitted(name, matrix, **quick(MODELS[name]))
    ids, scores = model.recommend(np.arange(shape[0]), matrix, N=3, filter_already_liked_items=False)
    assert ids.shape == (shape[0], 3)
    assert len(set(ids[0][ids[0] >= 0].tolist())) == min(3, shape[1])
    assert np.isfinite(scores).all()
    ids, scores = model.recommend(np.arange(shape[0]), matrix, N=3)
    assert (ids == -1).all()
    assert (scores == NO_SCORE).all()


@every_model
def test_interactions_give_their_ids_and_titles_to_the_model(name):
    users = IdMap([f"u{row}" for row in range(24)])
    items = IdMap(range(100, 115))
    titles = np.array([f"Title {item}" for item in range(15)], dtype=object)
    data = Interactions(TASTES, users, items, titles=titles, item_columns=TAGS, user_columns=KINDS)
    model = fitted(name, data, **quick(MODELS[name]))
    assert model.users_ == users
    assert model.items_ == items
    assert model.titles_.tolist() == titles.tolist()
    if name not in ("ContentKNN", "FEASE"):  # which read the columns of the items
        equal_models(model, fitted(name, TASTES, **quick(MODELS[name])), TASTES)
    # The same people with the columns in another order, and a column that the model never saw.
    order = np.random.default_rng(0).permutation(15)
    wider = sp.csr_matrix(sp.hstack([TASTES[:, order], np.ones((24, 1), dtype=np.float32)]))
    shuffled = Interactions(wider, users, IdMap([*items.ids(order).tolist(), 999]))
    known = np.arange(24)
    same(model.recommend(known, shuffled), model.recommend(known, TASTES))
    same(model.recommend(known, shuffled, recalculate_user=True), model.recommend(known, TASTES, recalculate_user=True))


@every_model
def test_interactions_of_another_width_are_refused_where_ids_are_not_known(name):
    data = Interactions(UNSEEN[:, :9], IdMap(range(6)), IdMap(range(9)))
    with pytest.raises(DataError, match=r"one column per training item \(15\)"):
        on_tastes(name).recommend(np.arange(6), data)


# Randomness


@every_model
def test_no_global_generator_is_touched(name):
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - the state to protect
    model = fitted(name, TASTES, **quick(MODELS[name]))
    model.recommend(np.arange(24), TASTES)
    assert torch.equal(torch.get_rng_state(), before[0])
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(one, other) for one, other in zip(after, before[1], strict=True))
    assert random.getstate() == before[2]


@every_model
def test_the_same_seed_gives_the_same_model(name):
    equal_models(fitted(name, TASTES, **quick(MODELS[name])), fitted(name, TASTES, **quick(MODELS[name])), TASTES)


SEEDED = [n for n in CASES if "seed" in {field.name for field in fields(MODELS[n])}]


@pytest.mark.parametrize(
    "name", [n for n in SEEDED if "Features" not in n]
)  # of EASE: they draw what to hold out alone
def test_another_seed_gives_another_model(name):
    users = np.arange(24)
    scores = [fitted(name, TASTES, seed=seed, **quick(MODELS[name])).recommend(users, TASTES)[1] for seed in (0, 1)]
    assert not np.array_equal(*scores)


@networks
def test_a_numpy_generator_will_do_as_seed(name):
    one, other = (fitted(name, TASTES, seed=np.random.default_rng(3), **quick(MODELS[name])) for _ in range(2))
    equal_models(one, other, TASTES)
    assert one.params()["seed"] is None
    a, b = (fitted(name, TASTES, seed=None, **quick(MODELS[name])).recommend(0, TASTES[0])[1] for _ in range(2))
    assert not np.array_equal(a, b)


# Recommending


@that(personal=True)
def test_the_withheld_item_comes_first(name):
    model = on_board(name)
    users = np.arange(SIZE)
    assert model.recommend(users, BOARD, N=1)[0].ravel().tolist() == users.tolist()
    assert model.recommend(users - SIZE, BOARD, N=1)[0].ravel().tolist() == users.tolist()  # as strangers
    ids, _ = model.recommend(users, BOARD, N=10, filter_already_liked_items=False)
    assert (ids % 2 == PARITY[:, None]).all()


@that(personal=False)
def test_popularity_is_the_same_for_all(name):
    popular = csr([[1.0, 5.0, np.nan], [np.nan, 1.0, np.nan], [np.nan, 0.0, 0.0]])
    ids, scores = fitted(name, popular).recommend([0, 1, 7], popular, filter_already_liked_items=False, N=3)
    assert ids.tolist() == [[1, 0, 2]] * 3
    assert scores.tolist() == [[3, 1, 1]] * 3


@every_model
def test_a_scalar_gives_one_list_and_an_array_a_row_each(name):
    model = on_tastes(name)
    one = model.recommend(4, TASTES[4], N=6)
    many = model.recommend(np.array([4, 2]), TASTES[[4, 2]], N=6)
    for found, shape in ((one, (6,)), (many, (2, 6)), (model.recommend([4], TASTES[4], N=6), (1, 6))):
        assert found[0].shape == found[1].shape == shape
        assert found[0].dtype == np.int32
        assert found[1].dtype == np.float32
    close((one[0][None], one[1][None]), (many[0][:1], many[1][:1]))


@every_model
def test_users_come_in_any_form(name):
    model = on_tastes(name)
    expected = model.recommend(np.arange(3), TASTES[:3])
    for users in (
        [0, 1, 2],
        (0, 1, 2),
        range(3),
        np.arange(3, dtype=np.int32),
        np.arange(3, dtype=np.uint8),
        memoryview(np.arange(3, dtype=np.int32)),
        pd.Series([0, 1, 2]),
    ):
        same(model.recommend(users, TASTES[:3]), expected)
    for user in (1, np.int32(1), np.int64(1), np.array(1)):
        assert model.recommend(user, TASTES[1])[0].shape == (10,)
    none = model.recommend(np.array([], dtype=np.int64), TASTES[:0], N=4)
    assert none[0].shape == none[1].shape == (0, 4)


@every_model
def test_row_r_is_the_history_of_user_r_of_the_call(name):
    model = on_tastes(name)
    order = np.array([7, 0, 23, 0])
    whole = model.recommend(np.arange(24), TASTES)
    close(model.recommend(order, TASTES[order]), (whole[0][order], whole[1][order]))


@every_model
def test_scores_fall_and_no_item_comes_twice(name):
    ids, scores = on_tastes(name).recommend(np.arange(24), TASTES, N=15, filter_already_liked_items=False)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(15), (24, 1)))
    ties = np.diff(scores, axis=1) == 0
    assert (np.diff(ids, axis=1)[ties] > 0).all()


@every_model
def test_slots_that_no_item_can_fill_are_marked(name):
    ids, scores = on_tastes(name).recommend(np.arange(24), TASTES, N=20)
    for row in range(24):
        unseen = np.setdiff1d(np.arange(15), TASTES[row].indices)
        assert np.sort(ids[row, : len(unseen)]).tolist() == unseen.tolist()
        assert (ids[row, len(unseen) :] == -1).all()
        assert (scores[row, len(unseen) :] == NO_SCORE).all()
        assert (scores[row, : len(unseen)] > NO_SCORE).all()


@every_model
def test_seen_items_come_back_only_where_asked(name):
    model = on_tastes(name)
    users = np.arange(24)
    without, _ = model.recommend(users, TASTES, N=15)
    assert not any(np.isin(row, TASTES[user].indices).any() for user, row in enumerate(without))
    ids, scores = model.recommend(users, TASTES, N=15, filter_already_liked_items=False)
    kept = [[i for i in row if i not in TASTES[user].indices] for user, row in enumerate(ids)]
    assert kept == [[i for i in row if i >= 0] for row in without.tolist()]
    assert np.isfinite(scores).all()


@every_model
def test_a_stored_zero_is_seen(name):
    histories = UNSEEN.copy()
    kept = histories.indices[histories.indptr[0]]
    histories.data[histories.indptr[0]] = 0.0
    ids, _ = on_tastes(name).recommend(np.full(6, -1), histories, N=15)
    assert kept not in ids[0]


@every_model
def test_filtered_items_never_come(name):
    model = on_tastes(name)
    users = np.arange(24)
    for unwanted in ([0, 3, 3, 14], np.array([5]), 5, []):
        ids, _ = model.recommend(users, TASTES, N=15, filter_items=unwanted)
        assert not np.isin(ids, unwanted).any()
        whole, _ = model.recommend(users, TASTES, N=15)
        wanted = [[i for i in row if i >= 0 and i not in np.atleast_1d(unwanted)] for row in whole]
        assert [[i for i in row if i >= 0] for row in ids] == wanted


@every_model
def test_only_the_chosen_items_are_ranked(name):
    model = on_tastes(name)
    users, chosen = np.arange(24), [12, 3, 3, 7, 0]
    ids, scores = model.recommend(users, TASTES, N=10, items=chosen, filter_already_liked_items=False)
    assert ids.shape == (24, 4)  # no longer than the choice, as in implicit
    all_ids, all_scores = model.recommend(users, TASTES, N=15, filter_already_liked_items=False)
    mask = np.isin(all_ids, chosen)
    close((ids, scores), (all_ids[mask].reshape(24, 4), all_scores[mask].reshape(24, 4)))
    best, _ = model.recommend(users, TASTES, N=2, items=chosen, filter_already_liked_items=False)
    assert np.array_equal(best, ids[:, :2])
    unseen, values = model.recommend(users, TASTES, N=10, items=chosen)
    for user in users:
        allowed = np.setdiff1d(chosen, TASTES[user].indices)
        assert np.sort(unseen[user])[4 - len(allowed) :].tolist() == allowed.tolist()
        assert (values[user, len(allowed) :] == NO_SCORE).all()


@every_model
def test_what_cannot_be_asked_is_refused(name):
    model = on_tastes(name)
    with pytest.raises(DataError, match="filter_items or items, not both"):
        model.recommend(0, TASTES[0], items=[1], filter_items=[2])
    for wrong in ({"items": [15]}, {"items": [-1, 2]}, {"filter_items": [0, 99]}):
        with pytest.raises(OutOfRangeError, match=r"must lie in 0\.\.14"):
            model.recommend(0, TASTES[0], **wrong)
    for n in (0, -1):
        for call in (
            lambda n=n: model.recommend(0, TASTES[0], N=n),
            lambda n=n: model.recommend_users(0, TASTES, N=n),
        ):
            with pytest.raises(DataError, match=f"N must be at least 1, got {n}"):
                call()
    with pytest.raises(DataError, match=r"one row per userid \(2\), got 3 rows"):
        model.recommend([0, 1], TASTES[:3])
    with pytest.raises(DataError, match=r"one column per training item \(15\)"):
        model.recommend(0, BOARD[0])
    with pytest.raises(DataError, match="scipy sparse"):
        model.recommend(0, TASTES[0].toarray())
    with pytest.raises(IndexError):
        model.recommend_users(15, TASTES)


@every_model
def test_strangers_are_served_from_their_history_whatever_their_number(name):
    model = on_tastes(name)
    expected = model.recommend(np.full(6, -1), UNSEEN, N=5)
    assert np.isfinite(expected[1]).all()
    assert not any(np.isin(row, UNSEEN[user].indices).any() for user, row in enumerate(expected[0]))
    same(model.recommend(np.arange(24, 30), UNSEEN, N=5), expected)
    same(model.recommend(np.arange(10**6, 10**6 + 6), UNSEEN, N=5), expected)
    same(model.recommend(np.arange(6), UNSEEN, N=5, recalculate_user=True), expected)
    mixed = model.recommend([-1, 2, 99], sp.vstack([UNSEEN[0], TASTES[2], UNSEEN[2]]), N=5)
    known = model.recommend(2, TASTES[2], N=5)
    close(mixed, tuple(np.stack([s[0], k, s[2]]) for s, k in zip(expected, known, strict=True)))


@that(scores_known_users=False)
def test_without_vectors_of_its_users_the_history_alone_decides(name):
    model = on_tastes(name)
    same(model.recommend(np.arange(6), UNSEEN), model.recommend(np.full(6, -1), UNSEEN))
    with pytest.raises(DataError, match="needs the users' histories: pass user_items"):
        model.recommend(0, filter_already_liked_items=False)


@that(scores_known_users=True)
def test_with_vectors_of_its_users_no_history_is_needed(name):
    model = on_tastes(name)
    users = np.arange(24)
    options = {"N": 15, "filter_already_liked_items": False}
    same(model.recommend(users, None, **options), model.recommend(users, TASTES, **options))
    with pytest.raises(DataError, match="or filter_already_liked_items=False"):
        model.recommend(0)
    with pytest.raises(DataError, match="needs the users' histories"):
        model.recommend(24, None, **options)
    with pytest.raises(DataError, match="needs the users' histories"):
        model.recommend(0, None, recalculate_user=True, **options)


@that(new_users="fold-in")
def test_a_history_that_is_not_that_of_training_is_folded_in(name):
    """More, less, other, and the same items with another value; in every order of users, by every verb."""
    model, users = on_tastes(name), np.arange(24)
    options = {"N": 15, "filter_already_liked_items": False}
    changed = TASTES.tolil()
    changed[3, np.flatnonzero(TASTES[3].toarray() == 0)[0]] = 4.0
    changed[5, TASTES[5].indices[-1]] = 0.0
    changed[8, TASTES[8].indices[0]] = 0.5
    changed = sp.csr_matrix(changed, dtype=np.float32)
    changed.eliminate_zeros()
    assert np.flatnonzero((changed != TASTES).getnnz(axis=1)).tolist() == [3, 5, 8]
    served = np.where(np.isin(users, [3, 5, 8]), -1, users)

    found = model.recommend(users, changed, **options)
    trained, stranger = model.recommend(users, TASTES, **options), model.recommend(users - 24, changed, **options)
    same(found, tuple(np.where((served < 0)[:, None], s, t) for s, t in zip(stranger, trained, strict=True)))
    assert (trained[1] != stranger[1]).any(axis=1).all()  # to the last bit nobody's vectors agree
    same(
        model.recommend(users, TASTES, recalculate_user=True, **options), model.recommend(-1 - users, TASTES, **options)
    )
    order = np.random.default_rng(0).permutation(24)
    same(model.recommend(order, changed[order], **options), tuple(part[order] for part in found))
    same(model.recommend(8, changed[8], **options), (found[0][8], found[1][8]))
    known, named = (model.recommend_users([2, 9], changed, 24, False, userid=userid) for userid in (users, served))
    same(known, named)
    masked = model.recommend(users, changed, N=15, seen=TASTES)
    same(masked, model.recommend(served, changed, N=15, seen=TASTES))


@that(new_users="fold-in", rates=True)
@pytest.mark.parametrize("biases", [None, 1.0])
def test_ratings_are_predicted_from_a_history_that_is_not_that_of_training(name, biases):
    model = fitted(name, TASTES, **quick(MODELS[name]), unobserved_weight=0.0, biases=biases)
    more = sp.vstack([TASTES[0] + UNSEEN[0], TASTES[1], TASTES[2] * 0.5]).tocsr()
    items = np.tile(np.arange(15), (3, 1))
    found = model.predict([0, 1, 2], more, items)
    np.testing.assert_array_equal(found, model.predict([-1, 1, -1], more, items))
    np.testing.assert_array_equal(found[1], model.predict(1, None, items[1]))
    assert np.abs(found[0] - model.predict(0, None, items[0])).max() > 1e-3


@that(new_users="fold-in")
def test_a_history_that_says_nothing_changes_nothing(name):
    """An empty one, or one of items that no training user has."""
    matrix = sp.hstack([TASTES, sp.csr_matrix((24, 2), dtype=np.float32)]).tocsr()
    model = fitted(name, matrix, **quick(MODELS[name]))
    options = {"N": 17, "filter_already_liked_items": False}
    nothing = csr([[np.nan] * 17, [np.nan] * 15 + [3.0, np.nan]])
    same(model.recommend([4, 7], nothing, **options), model.recommend([4, 7], None, **options))


@every_model
def test_a_user_without_history_gets_a_full_list(name):
    empty = sp.csr_matrix((2, 15), dtype=np.float32)
    ids, scores = on_tastes(name).recommend([-1, -1], empty, N=15)
    assert np.array_equal(np.sort(ids, axis=1), np.tile(np.arange(15), (2, 1)))
    assert np.isfinite(scores).all()


@every_model
def test_the_size_of_blocks_changes_nothing(name):
    model = on_tastes(name)
    users = np.arange(24)

    def everything():
        yield model.recommend(users, TASTES, N=5)
        yield model.recommend(users - 24, TASTES, N=5)
        yield model.recommend_users(np.arange(15), TASTES, N=5)
        if MODELS[name].capabilities.compares_items:
            yield model.similar_items(np.arange(15), N=5)
        if MODELS[name].capabilities.encodes:
            yield model.similar_users(users, N=5, user_items=TASTES)

    whole = list(everything())
    with (
        mock.patch.object(ranking, "SCORE_BYTES", 200),
        mock.patch.object(base, "ROW_BLOCK", 7),
        mock.patch.object(autoencoder, "ROW_BLOCK", 7),
    ):
        for found, expected in zip(everything(), whole, strict=True):
            close(found, expected)


# The best users of an item


@every_model
def test_the_best_users_of_an_item_are_those_it_scores_highest_for(name):
    model = on_tastes(name)
    items = np.array([9, 0, 9, 4])
    options = {"N": 24, "filter_already_liked_users": False, "userid": np.arange(24)}
    ids, scores = model.recommend_users(items, TASTES, **options)
    lists = model.recommend(np.arange(24), TASTES, N=15, filter_already_liked_items=False)
    table = np.empty((24, 15), dtype=np.float32)
    np.put_along_axis(table, *(lists[0].astype(np.int64), lists[1]), axis=1)
    assert (ids.dtype, scores.dtype, ids.shape) == (np.int32, np.float32, (4, 24))
    for row, item in enumerate(items):
        np.testing.assert_allclose(scores[row], np.sort(table[:, item])[::-1], rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(scores[row], table[ids[row], item], rtol=2e-5, atol=2e-5)
        assert np.sort(ids[row]).tolist() == list(range(24))
    one = model.recommend_users(9, TASTES, **{**options, "N": 5})
    close((one[0][None], one[1][None]), (ids[:1, :5], scores[:1, :5]))


@every_model
def test_users_who_have_the_item_are_left_out(name):
    histories = TASTES.copy()
    histories.data[histories.indices == 3] = 0.0  # stored, whatever the value
    ids, scores = on_tastes(name).recommend_users([3, 8], histories, N=30)
    for row, item in enumerate((3, 8)):
        others = np.setdiff1d(np.arange(24), TASTES[:, item].nonzero()[0])
        assert np.sort(ids[row, : len(others)]).tolist() == others.tolist()
        assert (ids[row, len(others) :] == -1).all()
        assert (scores[row, len(others) :] == NO_SCORE).all()


@that(keeps_users=True)
def test_the_best_training_users_need_no_history(name):
    model = on_tastes(name)
    found = model.recommend_users(np.arange(15), N=24)
    options = {"N": 24, "filter_already_liked_users": False}
    close(found, model.recommend_users(np.arange(15), TASTES, **options, userid=np.arange(24)))


@that(scores_known_users=True, personal=True)
def test_histories_are_strangers_unless_their_users_are_named(name):
    model, turned = on_tastes(name), TASTES[::-1]
    ids, scores = model.recommend_users(3, turned, N=24, filter_already_liked_users=False)
    again = model.recommend_users(3, TASTES, N=24, filter_already_liked_users=False)
    close((23 - ids, scores), again)
    with pytest.raises(DataError, match="userid must name the user of each of the 24 rows, got 3"):
        model.recommend_users(3, TASTES, userid=[0, 1, 2])


@every_model
def test_masks_and_fractions_are_no_indices(name):
    model, mask = on_tastes(name), np.zeros(15, dtype=bool)
    for option in ("items", "filter_items"):
        with pytest.raises(DataError, match=f"{option} must be whole numbers, got bool.*flatnonzero"):
            model.recommend(0, TASTES[0], **{option: mask})
        with pytest.raises(DataError, match="must be whole numbers, got float64"):
            model.recommend(0, TASTES[0], **{option: [0.7]})
    with pytest.raises(DataError, match="userid must be whole numbers"):
        model.recommend([0.5], TASTES[0])
    with pytest.raises(DataError, match=r"N must be a whole number, got 2\.5"):
        model.recommend(0, TASTES[0], N=2.5)


@that(keeps_users=False, scores_known_users=False)
def test_without_user_vectors_the_best_users_need_histories(name):
    with pytest.raises(UnsupportedError, match="pass their histories as user_items="):
        on_tastes(name).recommend_users(0)
    with pytest.raises(UnsupportedError, match="user_items="):
        on_tastes(name).similar_users(0)


@that(personal=True)
def test_the_best_users_of_an_item_share_its_parity(name):
    ids, _ = on_board(name).recommend_users(np.arange(SIZE), BOARD, N=1)
    assert ids.ravel().tolist() == list(range(SIZE))


# Similarity


def check_similar(find, total):
    ids, scores = find(np.arange(total), total + 2)
    assert (ids.dtype, scores.dtype, ids.shape) == (np.int32, np.float32, (total, total + 2))
    assert ids[:, 0].tolist() == list(range(total))
    assert (scores[:, 0] == 1).all()
    assert (scores[:, 1:total] < 1).all()
    assert (scores[:, :total] >= -1).all()
    assert (np.diff(scores, axis=1) <= 0).all()
    assert np.array_equal(np.sort(ids[:, :total], axis=1), np.tile(np.arange(total), (total, 1)))
    assert (ids[:, total:] == -1).all()
    assert (scores[:, total:] == NO_SCORE).all()
    one = find(3, 4)
    assert one[0].shape == (4,)
    close((one[0][None], one[1][None]), (ids[3:4, :4], scores[3:4, :4]))
    for wrong in (total, -1):
        with pytest.raises(OutOfRangeError):
            find(wrong, 4)
    with pytest.raises(DataError, match="N must be at least 1"):
        find(0, 0)


@that(compares_items=True)
def test_similar_items(name):
    model = on_tastes(name)
    check_similar(lambda ids, n: model.similar_items(ids, N=n), 15)
    ids, scores = model.similar_items([4, 5], N=15)
    chosen = model.similar_items([4, 5], N=15, items=[5, 1, 9])
    mask = np.isin(ids, [1, 5, 9])
    close(chosen, (ids[mask].reshape(2, 3), scores[mask].reshape(2, 3)))
    left, _ = model.similar_items([4, 5], N=15, filter_items=[5, 1])
    assert not np.isin(left, [5, 1]).any()
    assert left[0, 0] == 4
    assert (left[1] >= 0).sum() == 13
    with pytest.raises(DataError, match="filter_items or items, not both"):
        model.similar_items(0, items=[1], filter_items=[2])
    with pytest.raises(OutOfRangeError):
        model.similar_items(0, items=[15])
    for extra in ({"recalculate_item": True}, {"item_users": TASTES.T}):
        with pytest.raises(UnsupportedError, match="does not recalculate items"):
            model.similar_items(0, **extra)


@that(compares_items=True)
def test_items_of_one_parity_are_similar(name):
    ids, _ = on_board(name).similar_items(np.arange(SIZE), N=10)
    assert (ids % 2 == PARITY[:, None]).all()


@that(compares_items=False)
def test_a_model_without_item_similarity_says_so(name):
    with pytest.raises(UnsupportedError, match="has no similarity of items; use"):
        on_board(name).similar_items(0)


@that(keeps_users=True)
def test_similar_users(name):
    model = on_tastes(name)
    check_similar(lambda ids, n: model.similar_users(ids, N=n), 24)
    ids, scores = model.similar_users([4, 5], N=24)
    chosen = model.similar_users([4, 5], N=24, users=[5, 1, 9])
    mask = np.isin(ids, [1, 5, 9])
    close(chosen, (ids[mask].reshape(2, 3), scores[mask].reshape(2, 3)))
    assert not np.isin(model.similar_users(4, N=24, filter_users=[1, 2])[0], [1, 2]).any()
    with pytest.raises(DataError, match="filter_users or users, not both"):
        model.similar_users(0, users=[1], filter_users=[2])
    ids, _ = on_board(name).similar_users(np.arange(SIZE), N=10)
    assert (ids % 2 == PARITY[:, None]).all()


@that(encodes=True)
def test_similar_users_among_strangers(name):
    check_similar(lambda ids, n: on_tastes(name).similar_users(ids, N=n, user_items=UNSEEN), 6)


@that(encodes=True)
def test_embeddings_are_of_histories_and_do_not_change(name):
    model = on_tastes(name)
    found = model.encode(UNSEEN)
    assert found.dtype == np.float32
    assert found.shape[0] == 6
    assert np.isfinite(found).all()
    assert np.array_equal(found, model.encode(UNSEEN))
    np.testing.assert_allclose(model.encode(UNSEEN[[3, 1]]), found[[3, 1]], rtol=1e-5, atol=1e-6)
    assert model.encode(UNSEEN[:0]).shape == (0, found.shape[1])
    with pytest.raises(DataError, match=r"one column per training item \(15\)"):
        model.encode(BOARD)


@that(decodes=True)
def test_scores_of_codes_are_those_of_the_histories(name):
    model = on_tastes(name)
    codes = model.encode(UNSEEN)
    found = model.decode(codes)
    assert found.dtype == np.float32
    ids, scores = model.recommend(np.full(6, -1), UNSEEN, N=15, filter_already_liked_items=False)
    usable = np.diff(UNSEEN.indptr) > 0
    np.testing.assert_allclose(np.take_along_axis(found, ids, 1)[usable], scores[usable], rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(model.decode(codes[[4, 1]]), found[[4, 1]])
    assert model.decode(codes[:0]).shape == (0, 15)
    before = codes.copy()
    model.decode(codes)
    np.testing.assert_array_equal(codes, before)
    for wrong in (codes[0], codes[:, :-1], [["a"] * codes.shape[1]], np.full_like(codes, np.nan)):
        with pytest.raises(DataError, match="codes"):
            model.decode(wrong)


@that(decodes=False)
def test_a_model_without_scores_of_codes_says_so(name):
    with pytest.raises(UnsupportedError, match=f"{name} has no scores of a code alone; use MultVAE"):
        on_tastes(name).decode(np.zeros((1, 4)))


@that(generates=True)
def test_a_posterior_is_that_of_the_embeddings(name):
    model = on_tastes(name)
    mean, log_variance = model.posterior(UNSEEN)
    np.testing.assert_allclose(mean, model.encode(UNSEEN), rtol=1e-6, atol=1e-6)
    assert log_variance.shape == mean.shape
    codes, log_density = model.draw_posterior(UNSEEN, 3)
    again, _ = model.draw_posterior(UNSEEN, np.random.default_rng(3))
    other, _ = model.draw_posterior(UNSEEN, 4)
    np.testing.assert_array_equal(codes, again)
    assert (codes != other).any(1).all()
    if name != "HVamp":  # of which only one level has these moments
        expected = scipy.stats.norm.logpdf(codes, mean, np.exp(0.5 * log_variance.astype(float))).sum(1)
        np.testing.assert_allclose(log_density, expected, rtol=1e-4, atol=1e-3)
    assert model.log_conditional(UNSEEN, codes).shape == (6,)
    with pytest.raises(DataError, match=r"one row per history \(6\), got 5"):
        model.log_conditional(UNSEEN, codes[:5])


@that(generates=False)
def test_a_model_without_a_posterior_says_so(name):
    model = on_tastes(name)
    for call in (model.posterior, model.draw_posterior, lambda x: model.log_conditional(x, x.toarray())):
        with pytest.raises(UnsupportedError, match=f"{name} has no posterior of codes with a likelihood"):
            call(UNSEEN)


@that(has_prior=True)
def test_draws_of_a_prior_have_its_density(name):
    """E_p [q(z) / p(z)] = 1 for any density q that is narrower than p."""
    model = on_tastes(name)
    codes = model.draw_prior(4000, 0)
    np.testing.assert_array_equal(codes, model.draw_prior(4000, 0))
    center, scale = codes.mean(0, dtype=float), 0.6 * codes.std(0, dtype=float)
    weights = np.exp(scipy.stats.norm.logpdf(codes, center, scale).sum(1) - model.log_prior(codes))
    error = weights.std() / 4000**0.5
    assert abs(weights.mean() - 1.0) < 5 * error
    assert error < 0.1


@that(generates=True, has_prior=False)
def test_a_prior_that_is_none_is_refused(name):
    model = on_tastes(name)
    for call in (lambda: model.draw_prior(3), lambda: model.log_prior(model.encode(UNSEEN))):
        with pytest.raises(UnsupportedError, match=f"{name} (with its composite|has means).*; use MultVAE, HVamp, AAE"):
            call()


@that(encodes=False)
def test_a_model_without_embeddings_says_so(name):
    with pytest.raises(UnsupportedError, match="no embeddings"):
        on_tastes(name).encode(TASTES)


@that(rates=False)
def test_a_model_that_only_ranks_predicts_no_ratings(name):
    with pytest.raises(UnsupportedError, match="predicts no ratings; use UAutoRec or IAutoRec"):
        on_tastes(name).predict(0, TASTES[0], [1, 2])
    with pytest.raises(UnsupportedError, match="predicts no ratings"):
        on_tastes(name).predict_pairs([0], TASTES[0], [0], [1])


# Keeping


@every_model
def test_a_saved_model_answers_as_before(name, tmp_path):
    data = Interactions(
        TASTES, IdMap(range(50, 74)), IdMap([f"i{item}" for item in range(15)]), item_columns=TAGS, user_columns=KINDS
    )
    rates = {"unobserved_weight": 0.0} if MODELS[name].capabilities.rates else {}
    model = fitted(name, data, **{**quick(MODELS[name]), **rates})
    model.save(tmp_path / "deep" / "model", metrics={"ndcg@10": 0.5}, about={"why": "a test"})
    for load in (MODELS[name].load, recsys.models.load):
        again = load(tmp_path / "deep" / "model")
        assert type(again) is MODELS[name]
        assert again.params() == model.params()
        assert learned(again).keys() == learned(model).keys()
        assert (again.users_, again.items_, again.about_) == (data.users, data.items, {"why": "a test"})
        assert again.record_ == model.record_
        equal_models(again, model, TASTES)
        equal_models(again, model, UNSEEN[[0] * 24])
        if MODELS[name].capabilities.keeps_users:
            same(again.similar_users(3), model.similar_users(3))
            same(again.recommend_users(3), model.recommend_users(3))
        if MODELS[name].capabilities.compares_items:
            same(again.similar_items(3), model.similar_items(3))
        if MODELS[name].capabilities.rates:
            asked = np.tile(np.arange(15), (24, 1))
            np.testing.assert_array_equal(
                again.predict(np.arange(24), TASTES, asked), model.predict(np.arange(24), TASTES, asked)
            )
        again.fit(TASTES[:, :9], show_progress=False)  # a loaded model is a model
        assert again.n_items_ == 9
    other = next(n for n in MODELS if n != name)
    with pytest.raises(BundleError, match=f"holds a {name}, not a {other}; use recsys.load"):
        MODELS[other].load(tmp_path / "deep" / "model")


@every_model
def test_pickle_and_copy_keep_the_model(name):
    model = on_tastes(name)
    for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert learned(again).keys() == learned(model).keys()
        equal_models(again, model, TASTES)
    unfitted = pickle.loads(pickle.dumps(new_model(name)))
    assert vars(unfitted) == vars(new_model(name))


def test_a_model_that_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="unknown model 'MultVEA'; did you mean 'MultVAE'"):
        recsys.models.model_class("MultVEA")
    assert recsys.models.model_class("EASE") is MODELS["EASE"]


# Measuring


def held_out(seed=0):
    """Training and test halves of the ratings as a part whose users are all known."""
    everything = ratings(n_users=40, n_items=30, density=0.4, seed=seed)
    is_test = np.random.default_rng(seed).random(everything.nnz) < 0.3
    rows = np.repeat(np.arange(40), np.diff(everything.indptr))
    train, test = (
        sp.csr_matrix((everything.data[mask], (rows[mask], everything.indices[mask])), shape=everything.shape)
        for mask in (~is_test, is_test)
    )
    return train, test, Part(train, test, IdMap(range(40)), np.arange(40, dtype=np.int32))


@every_model
def test_implicits_own_evaluation_agrees_with_ours(name):
    train, test, part = held_out()
    model = fitted(name, train, **quick(MODELS[name]))
    theirs = ranking_metrics_at_k(model, train, test, K=10, show_progress=False)
    ours = evaluate(model, part, ["ndcg@10", "map@10"])
    assert theirs["ndcg"] == pytest.approx(ours["ndcg@10"], abs=1e-6)
    assert theirs["map"] == pytest.approx(ours["map@10"], abs=1e-6)
    assert 0.05 < theirs["ndcg"] < 0.95
    # With more places than items: every list ends in empty slots, and nothing is read beyond them.
    theirs = ranking_metrics_at_k(model, train, test, K=50, show_progress=False)
    assert theirs["ndcg"] == pytest.approx(evaluate(model, part, "ndcg@50")["ndcg@50"], abs=1e-6)


@every_model
def test_validation_and_callbacks_see_each_epoch(name):
    train, _, part = held_out()
    entries, calls = [], []
    model = new_model(name, **quick(MODELS[name]))
    validation = Validation(part, "ndcg@5", also=("recall@5",))
    iterates = bool(quick(MODELS[name]))
    model.fit(
        train,
        show_progress=False,
        callback=lambda *figures: calls.append(figures),
        validation=validation,
        on_epoch=lambda entry: entries.append(dict(entry)),
    )
    assert entries == model.record_.epochs
    # Blend: EASE, 20 epochs of MultVAE and the blend itself; WithFeatures: EASE and what new items score; so of users.
    count = 22 if name == "Blend" else 2 if iterates or name in ("WithFeatures", "WithUserFeatures") else 1
    assert [entry["epoch"] for entry in entries] == list(range(1, count + 1))
    assert model.record_.metric == "ndcg@5"
    best = entries[model.record_.best_epoch - 1]
    assert best["ndcg@5"] == max(entry.get("ndcg@5", 0) for entry in entries)
    final = validation(model)
    assert {key: best[key] for key in final} == pytest.approx(final, abs=1e-9)  # the weights of that epoch were kept
    assert [call[0] for call in calls] == list(range(count))
    assert all(len(call) == 3 and call[1] >= 0 for call in calls)
    if MODELS[name].capabilities.trains_by_epochs and name not in COMPOSED:
        assert [call[2] for call in calls] == [entry["loss"] for entry in entries]
        assert [call[1] for call in calls] == [entry["seconds"] for entry in entries]


# Checkpoints


@networks
def test_an_interrupted_fit_ends_with_the_same_model(name, tmp_path):
    train, _, part = held_out()
    validation = Validation(part, "ndcg@5")
    options = {"show_progress": False, "validation": validation}
    unbroken = new_model(name, epochs=5).fit(train, **options)
    interrupt(new_model(name, epochs=5), train, tmp_path / "run", epoch=3, validation=validation)
    for change in ({"seed": 1}, {"batch_size": 7}):
        with pytest.raises(TrainingError, match=r"belongs to another run \(differs in .*" + next(iter(change))):
            new_model(name, epochs=5, **change).fit(train, checkpoint=tmp_path / "run", **options)
    resumed = new_model(name, epochs=5).fit(train, checkpoint=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    one, again = unbroken._arrays(), resumed._arrays()
    assert one.keys() == again.keys()
    assert all(np.array_equal(one[key], again[key]) for key in one)
    assert resumed.record_.best_epoch == unbroken.record_.best_epoch
    for before, after in zip(unbroken.record_.epochs, resumed.record_.epochs, strict=True):
        assert {**before, "seconds": 0} == {**after, "seconds": 0}

"""The search space of each model: declared, possible, complete, and the same where models are of a kind."""

import itertools
from dataclasses import fields

import pytest

from recsys.config import check_config
from recsys.errors import ConfigError
from recsys.models import EASE, MODELS, MultVAE, Range, Recommender, UAutoRec, register, registry
from recsys.models.spaces import ends, log, shown, space_of
from recsys.params import Positive, check, plain
from tests.contract import COMPOSED

FIXED = {
    "parts weights intercept model": "what it is made of",
    "columns min_count in_training strength warm_loss held_back": "how features are read, and what a fit chooses",
    "epochs iterations pretrain_epochs patience stop_after schedule": "how long it trains",
    "batch_size anneal_steps": "how long and how a network trains",
    "device precision seed": "where it computes",
    "keep_users keep_rows": "what is kept",
    "layers decoder_layers probes dim perceptual discriminator pretraining_share": "the shape beside the code",
    "likelihood penalty corruption activation acquisition decoder": "which one of several it is",
    "samples target halves": "which model of several it is",
    "negatives negatives_from": "how nearly the softmax is computed, which the catalog decides",
    "center biases clip cold_rating": "what ratings are, which the data set decides",
}
"""Hyperparameters that no search varies, and why."""
SHAPE = {
    "hidden": {"UAutoRec", "IAutoRec"},
    "unobserved_weight": {name for name, cls in MODELS.items() if cls.capabilities.ranks_with == "unobserved_weight"},
    "neighbors": {"ItemKNN"},
    "pseudo_inputs": {"HVamp"},
    "prior": {"FEASE"},
}
"""Those that are searched in these models and fixed in others: a second width, what one likelihood or prior has."""


@pytest.fixture(autouse=True)
def _own_models_are_forgotten():
    before = dict(registry._REGISTERED)
    yield
    registry._REGISTERED.clear()
    registry._REGISTERED.update(before)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_space_that_it_can_take(name):
    cls = MODELS[name]
    space = space_of(cls)
    assert bool(space) == (name not in ("Popularity", *COMPOSED))
    for knob, values in space.items():
        for value in ends(values):
            check(cls, {knob: value})
    settings = itertools.islice(itertools.product(*(ends(values) for values in space.values())), 3000)
    for setting in settings:
        cls(**dict(zip(space, setting, strict=True))).check_params()


@pytest.mark.parametrize("name", MODELS)
def test_every_hyperparameter_is_searched_or_has_a_reason_not_to_be(name):
    cls = MODELS[name]
    fixed = {knob for knobs in FIXED for knob in knobs.split()} | {k for k, of in SHAPE.items() if name not in of}
    assert {field.name for field in fields(cls)} - set(space_of(cls)) <= fixed
    assert not set(space_of(cls)) & fixed - set(SHAPE)


@pytest.mark.parametrize("name", MODELS)
def test_a_search_may_begin_at_the_defaults(name):
    cls = MODELS[name]
    for knob, values in space_of(cls).items():
        default = plain(getattr(cls(), knob))
        if knob == cls.capabilities.ranks_with:
            assert default == 0  # with which it does not rank
        elif isinstance(values, Range):
            assert values.low <= default <= values.high
        else:
            assert default in map(plain, values)


def test_models_of_a_kind_may_touch_the_same():
    single = {name: cls for name, cls in MODELS.items() if name not in COMPOSED}
    networks = {name: space_of(cls) for name, cls in single.items() if cls.capabilities.trains_by_epochs}
    rating = {name for name, cls in single.items() if cls.capabilities.rates}
    assert len(networks) > 20
    for kind in (networks.keys() - rating - {"ELSA"}, rating):
        assert len({repr(networks[name]["learning_rate"]) for name in kind}) == 1
        penalties = [networks[name]["weight_decay"] for name in kind]
        if kind is rating:
            assert len(set(map(repr, penalties))) == 1
        else:  # but for the default of each, which is one of its choices
            assert set.intersection(*map(set, penalties)) == {0.0, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2}
    linear = [space_of(cls) for name, cls in MODELS.items() if issubclass(cls, EASE)]
    assert len(linear) > 4
    for knob in ("regularization", "item_exponent", "user_exponent"):
        assert len({repr(space[knob]) for space in linear}) == 1


def declare(space):
    return register(type("Declared", (EASE,), {"search_space": space, "__module__": __name__, "__doc__": "Of a test."}))


def test_a_model_of_a_user_declares_a_space_or_has_that_of_its_parent():
    space = {"regularization": log(1.0, 10.0), "item_exponent": (0.1, 0.2)}
    cls = declare(space)
    # The defaults, 500 and 0, are made part of it.
    assert space_of(cls) == {"regularization": log(1.0, 500.0), "item_exponent": [0.0, 0.1, 0.2]}
    assert check_config({"model": {"name": "Declared"}, "tune": {}}).space == space_of(cls)

    @register
    class Child(cls):
        """Declares none."""

        regularization: Positive = 2000.0

    assert space_of(Child)["regularization"].high == 2000.0
    assert Recommender.search_space == {}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (
            {"regularisation": (1.0,)},
            "search_space of Declared: Declared has no hyperparameter 'regularisation'; did you",
        ),
        (
            {"regularization": log(1e-3, 5.0), "item_exponent": Range(low=0.0, high=2.0)},
            "item_exponent of Declared must",
        ),
        ({"precision": ("float64", "float16")}, "precision of Declared must be 'float64' or 'float32', got 'float16'"),
        ({"regularization": 5.0}, "regularization takes a Range or choices, got 5.0"),
        ({"regularization": ()}, r"regularization takes a Range or choices, got \(\)"),
    ],
)
def test_a_space_with_an_unknown_knob_or_an_impossible_value_is_refused(space, message):
    with pytest.raises(ConfigError, match=message):
        declare(space)
    assert "Declared" not in MODELS


def test_a_range_of_logarithms_does_not_reach_a_default_of_0():
    assert space_of(declare({"item_exponent": log(0.1, 0.5)})) == {"item_exponent": log(0.1, 0.5)}


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (log(1e-4, 0.1), "0.0001 to 0.1 (log)"),
        (Range(low=2, high=8), "2 to 8"),
        (Range(low=0.0, high=1.0, step=0.25), "0 to 1 (in steps of 0.25)"),
        ((0.0, 1e-5, True, "cosine", None, (600, 200)), "0, 1e-05, True, cosine, None, (600, 200)"),
    ],
)
def test_values_as_a_reader_writes_them(values, text):
    assert shown(values) == text


def test_the_weight_by_which_a_rating_model_ranks_is_searched_where_lists_are_measured():
    ranked = check_config({"model": {"name": "UAutoRec"}, "tune": {}})
    assert ranked.space == space_of(UAutoRec)
    rated = check_config({"model": {"name": "UAutoRec"}, "train": {"metric": "rmse"}, "tune": {}})
    assert ranked.space.keys() - rated.space.keys() == {"unobserved_weight"}


def test_a_configuration_may_name_a_space_of_its_own():
    own = check_config({"model": {"name": "MultVAE"}, "tune": {"space": {"beta": [0.1, 0.3]}}})
    assert own.space == {"beta": [0.1, 0.3]}
    assert own.declared_space() == space_of(MultVAE)


def test_what_the_configuration_sets_must_go_with_the_declared_space():
    values = {"model": {"name": "UAutoRec", "biases": 1.0}}
    assert check_config(values).space == space_of(UAutoRec)  # nothing is searched without a section
    with pytest.raises(ConfigError, match=r"biases with unobserved_weight > 0 would count"):
        check_config({**values, "tune": {}})
    assert check_config({**values, "train": {"metric": "rmse"}, "tune": {}}).space


@pytest.mark.parametrize("name", MODELS)
def test_a_configuration_without_values_can_be_searched(name):
    job = check_config({"model": {"name": name}, "tune": {"start": "sample"}})
    if name in ("Popularity", *COMPOSED):
        with pytest.raises(ConfigError, match=f"nothing to tune: {name} declares no search space"):
            job.search()
    else:
        assert job.search().space == space_of(MODELS[name])
        assert job.search().start == "sample"

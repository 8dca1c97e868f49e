"""Hyperparameters: types and ranges at the fields, checked alike however a class was written."""

import importlib
from dataclasses import dataclass

import numpy as np
import pytest

from recsys.errors import ConfigError
from recsys.models import FeatureConsistentAE, ItemKNN
from recsys.params import RENAMED, Count, Parameters, Rate, check, field_docs, help_of, hints, modern

OWN = """
from dataclasses import dataclass
from typing import Annotated, Literal
from annotated_types import Gt
from recsys.params import Parameters, Widths

@dataclass(kw_only=True, eq=False)
class Own(Parameters):
    width: Annotated[int, Gt(2)] = 3
    \"\"\"Of the layer, in units.\"\"\"
    rate: float = 0.5
    hidden: Widths = (4,)
    kind: Literal["a", "b"] = "a"
    limit: int | None = None
"""


@pytest.fixture(params=["", "from __future__ import annotations"], ids=["types", "text"])
def own(request, tmp_path, monkeypatch):
    """A user's class in a file of its own, whose types are objects or text."""
    name = f"own_{'text' if request.param else 'types'}"
    (tmp_path / f"{name}.py").write_text(request.param + OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name).Own


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 2}, "width of Own must be a whole number > 2, got 2"),
        ({"width": 3.0}, r"width of Own must be a whole number > 2, got 3\.0"),
        ({"width": True}, "width of Own must be a whole number > 2, got True"),
        ({"rate": "0.5"}, "rate of Own must be a finite number, got '0.5'"),
        ({"rate": float("nan")}, "rate of Own must be a finite number, got nan"),
        ({"hidden": 4}, "hidden of Own must be a tuple with each entry a whole number ≥ 1, got 4"),
        ({"hidden": (4, 0)}, r"hidden of Own must be a tuple .*, got \(4, 0\)"),
        ({"kind": "c"}, "kind of Own must be 'a' or 'b', got 'c'"),
        ({"limit": "x"}, "limit of Own must be a whole number or None, got 'x'"),
        ({"witdh": 4}, "Own has no hyperparameter 'witdh'; did you mean 'width'"),
    ],
)
def test_wrong_values_are_refused_in_full(own, values, message):
    with pytest.raises(ConfigError, match=message):
        check(own, values)


def test_right_values_come_back_as_pythons_own(own):
    given = {"width": np.int64(4), "rate": np.float32(0.5), "hidden": [np.int32(3), 2], "kind": "b", "limit": None}
    checked = check(own, given)
    assert checked == {"width": 4, "rate": 0.5, "hidden": (3, 2), "kind": "b", "limit": None}
    assert [type(value) for value in checked.values()] == [int, float, tuple, str, type(None)]
    assert field_docs(own) == {"width": "Of the layer, in units."}
    model = own(**given)
    assert model.width is given["width"]
    model.check_params()
    assert (type(model.width), model.hidden) == (int, (3, 2))


def test_a_type_that_cannot_be_read_is_said():
    @dataclass
    class Local(Parameters):
        size: "Nowhere" = 1  # noqa: F821

    with pytest.raises(ConfigError, match=r"types of Local's hyperparameters cannot be read .*Nowhere"):
        hints(Local)


def test_parameters_are_got_and_set_by_name():
    model = ItemKNN(neighbors=3)
    assert model.get_params(deep=True) == {"neighbors": 3, "similarity": "cosine"}
    assert model.set_params(neighbors=4) is model
    assert model.neighbors == 4
    with pytest.raises(ConfigError, match="ItemKNN has no hyperparameter 'neighbor'; did you mean 'neighbors'"):
        model.set_params(similarity="bm25", neighbor=1)
    assert model.similarity == "cosine"


def test_an_old_name_is_refused_with_the_new_one():
    for refused in (lambda: check(ItemKNN, {"neighbours": 3}), lambda: ItemKNN().set_params(neighbours=3)):
        with pytest.raises(ConfigError, match=r"'neighbours': it was renamed to 'neighbors' in 0\.2\.0"):
            refused()


def test_an_old_name_of_a_stored_model_is_translated():
    assert modern(ItemKNN, {"neighbours": 3, "similarity": "bm25"}) == {"neighbors": 3, "similarity": "bm25"}
    assert modern(FeatureConsistentAE, {"pretraining": 0.2}) == {"pretraining_share": 0.2}
    assert not set(RENAMED) & set(RENAMED.values())


@dataclass(kw_only=True)
class Small(Parameters):
    size: Count = 3
    """How many."""
    share: Rate | None = None


def test_help_names_type_range_default_and_meaning():
    assert help_of(Small).splitlines() == [
        "Hyperparameters:",
        "    size: a whole number ≥ 1. Default 3. How many.",
        "    share: a finite number ≥ 0 and < 1 or None. Default None.",
    ]

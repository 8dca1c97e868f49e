"""Every key of a configuration with values of every type that TOML has: what the key does not take is refused."""

import inspect
import types
from collections.abc import Hashable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest

from recsys.config import JobConfig, data, load_config
from recsys.errors import ConfigError
from recsys.models import MODELS
from recsys.params import hints
from recsys.splits import SPLITTERS, options_of_kind

VALUES = {
    "boolean": ["true", "false"],
    "integer": ["1", "0", "-3"],
    "float": ["1.0", "0.5", "-2.5"],
    "infinite": ["nan", "inf", "-inf"],
    "text": ["''", "'1'", "'1.0'", "'true'", "'false'", "'None'"],
    "list": ["[]", "[1]", "[true]", "['a']", "[[1]]"],
    "table": ["{}", "{a = 1}"],
    "date": ["2026-08-01", "2026-08-01T00:43:50Z", "00:43:50"],
}
"""Literals of TOML by their type; no text among them is the name of anything."""


def types_of(hint: Any) -> set[str]:
    """Return the types of TOML of which a key with this annotation takes some value."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return types_of(arguments[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(types_of, arguments))
    if origin is Literal:
        return {"text"}
    if hint is Any:
        return set(VALUES)
    if hint is Hashable:
        return set(VALUES) - {"table"}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"table"}
    return {bool: {"boolean"}, int: {"integer"}, float: {"integer", "float"}, str: {"text"}}.get(
        hint, {"list"} if origin in (tuple, list) else {"table"} if hasattr(hint, "model_fields") else set()
    )


def keys():
    """(section, key, annotation, further settings) of every key."""
    for name, field in JobConfig.model_fields.items():
        yield name, "", dict, ()
        section: Any = next(kind for kind in (*get_args(field.annotation), field.annotation) if inspect.isclass(kind))
        if hasattr(section, "model_fields"):
            for key, inner in section.model_fields.items():
                yield name, inner.alias or key, inner.annotation, ()
        elif name != "model":
            yield from ((name, key, hint, ()) for key, hint in hints(section).items())
    for key, option in {**data.READ, **data.FILTER, **data.GENERATE}.items():
        yield "data", key, option.type, ()
    for kind in SPLITTERS:
        for key, option in options_of_kind(kind).items():
            yield "split", key, option.type, (f"split.kind={kind}", *(["split.column=part"] if kind == "given" else []))
    for name, model in MODELS.items():
        for key, hint in hints(model).items():
            yield "model", key, hint, (f"model.name={name}",)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("types") / "job.toml"
    path.write_text("", encoding="utf-8")
    return path


KEYS = list(keys())


def test_there_are_keys_of_every_section():
    assert {section for section, *_ in KEYS} == set(JobConfig.model_fields)
    assert len(KEYS) > 300


@pytest.mark.parametrize("section", list(JobConfig.model_fields))
def test_a_value_of_another_type_is_refused_and_the_key_is_named(file, section):
    accepted, tried = [], 0
    for _, key, hint, more in (entry for entry in KEYS if entry[0] == section):
        taken = {"table"} if hint is dict else types_of(hint)
        assert taken, f"{section}.{key} is of a type that no TOML file can give: {hint}"
        for value in (value for kind, values in VALUES.items() if kind not in taken for value in values):
            setting = f"{section}.{key}={value}" if key else f"{section}={value}"
            tried += 1
            try:
                load_config(file, [*more, setting])
            except ConfigError as error:
                said = str(error).rpartition(setting)[2]
                assert (key or section) in said, f"{setting} is refused without the key: {said}"
            else:
                accepted.append((*more, setting))
    assert not accepted
    assert tried > 15

"""A fitted model as a bundle of plain data, and a bundle as a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from recsys.artifacts import Bundle
from recsys.errors import BundleError
from recsys.models.params import modern, plain
from recsys.training import Record

Model = TypeVar("Model")


def to_bundle(model: Any, metrics: Mapping[str, float] | None, about: Any) -> Bundle:
    """Return a fitted model as data; `about` None keeps what the model was loaded with."""
    record = model.record_
    state = {
        "n_users": model.n_users_,
        "n_items": model.n_items_,
        "record": {"epochs": record.epochs, "best_epoch": record.best_epoch, "metric": record.metric},
        **model._state(),
    }
    return Bundle(
        model=type(model).__name__,
        module=type(model).__module__,
        params=model.params(),
        state=json.loads(json.dumps(state)),
        arrays={"popularity": model.popularity_, **model._arrays()},
        users=model.users_,
        items=model.items_,
        titles=model.titles_,
        metrics=dict(metrics or {}),
        about=dict(model.about_ if about is None else about),
    )


def from_bundle(cls: type[Model], bundle: Bundle, where: str, device: str = "auto") -> Model:
    """Return the model that a bundle holds, of version 0.1.0 or later.

    Args:
        cls: its class, which must be that of the bundle.
        where: path that it was read from, for messages.
        device: where it shall compute from now on, whatever it was trained on.

    Raises:
        BundleError: it is of another class, or does not fit this version's.
    """
    if bundle.model != cls.__name__:
        raise BundleError(f"{where} holds a {bundle.model}, not a {cls.__name__}; use recsys.load for any model")
    try:
        params = {name: plain(value) for name, value in modern(cls, bundle.params).items()}
        model: Any = cls(**{**params, **({"device": device} if "device" in params else {})})
        model.n_users_, model.n_items_ = int(bundle.state["n_users"]), int(bundle.state["n_items"])
        model.record_ = Record(**bundle.state["record"])
        model.users_, model.items_, model.titles_ = bundle.users, bundle.items, bundle.titles
        model.about_ = dict(bundle.about)
        model.popularity_ = bundle.arrays["popularity"]
        model._restore(bundle.arrays, bundle.state)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise BundleError(f"{where} does not fit this version's {cls.__name__}: {error}") from None
    restored: Model = model
    return restored

"""What a blend is made of: models, or tables of a configuration; checked, made, and kept within one bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from annotated_types import MinLen
from pydantic import AfterValidator

from recsys.artifacts import Bundle
from recsys.errors import BundleError, ConfigError
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.registry import class_of, model_class
from recsys.models.stored import Stored
from recsys.params import Seed, check, check_value

PREFIX = "parts"


def checked(parts: tuple[Any, ...], owner: str = "") -> tuple[Any, ...]:
    """Return models as they are, and tables with the names of classes and hyperparameters as Python values.

    Args:
        owner: what the message calls a part, in place of its number in a blend.

    Raises:
        ConfigError: what the configuration of such a model alone would raise, after the place of the part.
    """
    return tuple(_at(owner or f"{PREFIX}.{place} of Blend", _checked, part) for place, part in enumerate(parts))


Parts = Annotated[tuple[Recommender | Mapping[str, Any], ...], MinLen(1), AfterValidator(checked)]
"""Models, or tables with `name` and hyperparameters; `seeds` in place of `seed` stands for a part per seed."""


def made(parts: tuple[Any, ...], seed: int, device: str) -> list[Recommender]:
    """Return the models to fit, and those that are fitted already as they were given.

    Args:
        seed: added to the seeds of those to fit.
        device: where models compute that do not say it themselves.
    """
    models: list[Recommender] = []
    for part in checked(parts):
        if isinstance(part, Recommender):
            models.append(part if is_fitted(part) else type(part)(**part.get_params()))
            continue
        given = {name: value for name, value in part.items() if name not in ("name", "seeds")}
        copies = [{"seed": own} for own in part.get("seeds", ())] or [{}]
        models += [model_class(part["name"])(**given, **own) for own in copies]
    for model in models:
        if not is_fitted(model):
            if type(own := getattr(model, "seed", None)) is int:
                model.set_params(seed=own + seed)
            if getattr(model, "device", None) == "auto":
                model.set_params(device=device)
    return models


def check_models(models: Sequence[Recommender]) -> None:
    """Check what no single hyperparameter of a part can say; a ConfigError names the part."""
    for place, model in enumerate(models):
        if not is_fitted(model):
            _at(f"{PREFIX}.{place} of Blend", lambda model: model.check_params(), model)


def is_fitted(model: Recommender) -> bool:
    """Return whether a model was fitted, or loaded."""
    return hasattr(model, "n_items_")


def tables(parts: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return the parts as JSON values."""
    return [
        {"name": type(part).__name__, **part.params()} if isinstance(part, Recommender) else dict(part)
        for part in checked(parts)
    ]


def capabilities_of(models: Iterable[Recommender]) -> Capabilities:
    """Return what a blend of these models can do."""
    can = {model: model.capabilities for model in models}
    graphs = (f"of its part {type(model).__name__}, {own.no_graph}" for model, own in can.items() if own.no_graph)
    return Capabilities(
        rates=all(not model.why_no_ratings() for model in can),
        personal=any(own.personal for own in can.values()),
        explains=any(own.explains for own in can.values()),
        encodes=False,
        compares_items=any(own.compares_items for own in can.values()),
        keeps_users=False,
        scores_known_users=all(own.scores_known_users for own in can.values()),
        new_users="fold-in" if any(own.new_users == "fold-in" for own in can.values()) else "history",
        trains_by_epochs=True,
        weighs_users=all(own.weighs_users for own in can.values()),
        popularity_fallback=all(own.popularity_fallback for own in can.values()),
        no_graph=next(graphs, ""),
    )


def stored(models: Sequence[Recommender]) -> tuple[dict[str, npt.NDArray[Any]], list[dict[str, Any]]]:
    """Return the arrays of models under the numbers of the models, and what else their bundles hold, as JSON values."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    rest = []
    for place, model in enumerate(models):
        bundle = model.to_bundle()
        arrays |= {f"{PREFIX}.{place}.{name}": array for name, array in bundle.arrays.items()}
        rest.append({name: getattr(bundle, name) for name in ("model", "module", "params", "state")})
    return arrays, rest


def restored(
    owner: Recommender,
    arrays: Stored,
    rest: Any,
    device: str | None = None,
    *,
    n_items: int | None = None,
    n_users: int | None = None,
) -> list[Recommender]:
    """Return the models that `stored` gave, with the ids of the model that they are parts of.

    Args:
        device: where they compute from now on; None: where they did.
        n_items, n_users: how many items and users they know, the first of the owner's; None: all of them.

    Raises:
        BundleError: they are not as they were, or of classes that are not registered.
    """
    kinds = {"model": str, "module": str | None, "params": dict, "state": dict}
    if not isinstance(rest, list) or not all(
        isinstance(entry, dict)
        and entry.keys() == kinds.keys()
        and all(isinstance(entry[k], v) for k, v in kinds.items())
        for entry in rest
    ):
        raise BundleError("its parts must be a list of models with their hyperparameters and what they have learned")
    n_items = owner.n_items_ if n_items is None else n_items
    items = None if owner.items_ is None else owner.items_.take(np.arange(n_items))
    n_users, users = owner.n_users_ if n_users is None else n_users, owner.users_
    users = users if users is None else users.take(np.arange(min(n_users, len(users))))
    titles = None if owner.titles_ is None else owner.titles_[:n_items]
    models = []
    for place, entry in enumerate(rest):
        own = {name: arrays[name] for name in arrays if name.startswith(f"{PREFIX}.{place}.")}
        own = {name.removeprefix(f"{PREFIX}.{place}."): array for name, array in own.items()}
        bundle = Bundle(**entry, arrays=own, users=users, items=items, titles=titles)
        own_device = str(entry["params"].get("device", "auto")) if device is None else device
        model = class_of(bundle, f"part {place}")._from_bundle(bundle, f"part {place}", own_device)
        if (model.n_users_, model.n_items_) != (n_users, n_items):
            raise BundleError(f"part {place} was fitted to another number of users or items")
        models.append(model)
    return models


def _checked(part: Any) -> Any:
    if isinstance(part, Recommender):
        _check_alone(type(part))
        return part
    section = dict(part)
    name, seeds = section.pop("name", None), section.pop("seeds", None)
    if not isinstance(name, str):
        raise ConfigError("a part is a model or a table with its name, such as name = 'EASE'")
    cls = model_class(name)
    _check_alone(cls)
    values = {"name": cls.__name__, **check(cls, section)}
    if seeds is not None:
        if "seed" not in {field.name for field in fields(cls)} or "seed" in section:
            why = "seed is given too" if "seed" in section else f"{name} has no seed"
            raise ConfigError(f"seeds stands for one part per seed, but {why}; leave out seeds")
        values["seeds"] = check_value("seeds", Annotated[tuple[Seed, ...], MinLen(1)], seeds)
    return values


def _check_alone(cls: type[Recommender]) -> None:
    """Refuse a blend within another model, whose parts may as well be parts of the outer one."""
    if "parts" in {field.name for field in fields(cls)}:
        raise ConfigError(f"a {cls.__name__} has parts itself; name these")


def classes_in(config: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    """Return the names of the classes and their modules that a bundle's `config.json` needs, parts included."""
    state = config.get("state")
    parts = state.get(PREFIX) if isinstance(state, Mapping) else None
    inner = [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return [(config.get("model"), config.get("module")), *(pair for part in inner for pair in classes_in(part))]


def _at(place: str, function: Any, part: Any) -> Any:
    """Return function(part); a ConfigError says which part it is about."""
    try:
        return function(part)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None

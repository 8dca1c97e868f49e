"""The model inside of another: how it is named, and what of its capabilities is left beside features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import scipy.sparse as sp
from pydantic import AfterValidator

from recsys.memory import Need
from recsys.models.base import Recommender
from recsys.models.capabilities import Capabilities
from recsys.models.fitting import Validates
from recsys.models.linear import EASE
from recsys.models.parts import checked, is_fitted, made, tables


def one(part: Any) -> Any:
    """Return a model, or the table of one, checked."""
    return checked(({"name": part} if isinstance(part, str) else part,), "model inside")[0]


Inner = Annotated[str | Recommender | Mapping[str, Any], AfterValidator(one)]
"""A model, its name, or a table of its `name` and hyperparameters."""


class HasInner:
    """What models around one other model share; they have the fields `model`, `seed` and `device`."""

    model: Any
    seed: Any
    device: str

    def inner(self) -> Recommender:
        """Return the model inside, fitted if this one is."""
        own: Recommender | None = vars(self).get("model_")
        return made((one(self.model),), self.seed, self.device)[0] if own is None else own

    def params(self) -> dict[str, Any]:
        """Return the hyperparameters as JSON values; a model becomes a table."""
        own: dict[str, Any] = super().params()  # type: ignore[misc]
        return {**own, "model": tables((one(self.model),))[0]}

    def chosen_on_validation(self) -> str:
        """Return what the model inside chooses on validation."""
        return self.inner().chosen_on_validation()

    def _check_params(self) -> None:
        self.inner().check_params()

    def _memory(self, matrix: sp.csr_matrix) -> Need | None:
        inner = self.inner()
        return None if is_fitted(inner) else inner.memory_needed(matrix)


class Whole:
    """Measures the epochs of the model inside by what the whole recommends: new items may be what is to be found."""

    def __init__(self, whole: Recommender, put: Callable[[Recommender], None], validation: Validates) -> None:
        self.whole, self.put, self.validation = whole, put, validation
        self.metric, self.higher_is_better = validation.metric, validation.higher_is_better

    def __call__(self, model: Recommender) -> Mapping[str, float]:
        """Return the metrics of the whole with this model inside."""
        self.put(model)
        return self.validation(self.whole)


class OfInner:
    """The capabilities: those of the model inside, less what it cannot do with new items or users."""

    def __init__(self, *, keeps_users: bool = True) -> None:
        self.keeps_users = keeps_users

    def __get__(self, model: Any, owner: type | None = None) -> Capabilities:
        can = _less(EASE.capabilities if model is None else model.inner().capabilities)
        return replace(can, keeps_users=can.keeps_users and self.keeps_users)


def _less(own: Capabilities) -> Capabilities:
    """Return what a model of these capabilities can do together with new items or users."""
    return replace(
        own,
        rates=False,
        ranks_with=None,
        decodes=False,
        generates=False,
        has_prior=False,
        trains_by_epochs=True,
        in_ranks=False,
        starts_from=False,
        no_graph=own.no_graph or "it reads features, and a graph the items and histories of training alone",
    )

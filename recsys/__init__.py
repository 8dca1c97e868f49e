"""Top-N recommendation with autoencoders: train, evaluate, register, promote and score in batch.

Names are imported when they are first used: torch takes seconds to load, and a command's --help should not.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys import datasets, errors, export, metrics, models, promotion, report, splits, tracking, tuning
    from recsys.breakdown import activity_groups, cold_user_curve
    from recsys.comparison import Comparison, compare, intervals
    from recsys.data_report import DataReport, describe, leaks
    from recsys.evaluation import Evaluation, Validation, evaluate
    from recsys.ids import IdMap
    from recsys.interactions import Interactions
    from recsys.models import *
    from recsys.scoring import recommend_frame, score
    from recsys.splits import Part, Split
    from recsys.workspace import Workspace

    __version__: str

_MODULES = (
    "datasets",
    "errors",
    "export",
    "metrics",
    "models",
    "promotion",
    "report",
    "splits",
    "tracking",
    "tuning",
)
_HOMES = {
    "breakdown": ("activity_groups", "cold_user_curve"),
    "comparison": ("Comparison", "compare", "intervals"),
    "data_report": ("DataReport", "describe", "leaks"),
    "evaluation": ("Evaluation", "Validation", "evaluate"),
    "ids": ("IdMap",),
    "interactions": ("Interactions",),
    "models": ("Recommender", "load"),
    "scoring": ("recommend_frame", "score"),
    "splits": ("Part", "Split"),
    "workspace": ("Workspace",),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__all__":
        return __dir__()
    if name == "__version__":
        try:
            return version("recsys")
        except PackageNotFoundError:
            raise AttributeError("recsys has no version: it runs from its source and is not installed") from None
    if name in _MODULES:
        return import_module(f"recsys.{name}")
    if name in _HOME:
        return getattr(import_module(f"recsys.{_HOME[name]}"), name)
    if not name.startswith("_") and name in (own := _models()):
        return own[name]
    raise AttributeError(f"module 'recsys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_HOME, *_models(), "__version__"])


def _models() -> dict[str, Any]:
    """Return the models of this package by name; a user's own stay in the user's module."""
    registered = import_module("recsys.models").MODELS
    return {name: cls for name, cls in registered.items() if cls.__module__.startswith("recsys.")}

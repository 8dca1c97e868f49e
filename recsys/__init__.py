"""Top-N recommendation with autoencoders: train, evaluate, register, promote and score in batch.

Names are imported when they are first used: torch takes seconds to load, and a command's --help should not.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recsys import datasets, errors, metrics, report, splits
    from recsys.data_report import DataReport, describe, leaks
    from recsys.evaluation import (
        Comparison,
        Evaluation,
        Validation,
        activity_groups,
        cold_user_curve,
        compare,
        evaluate,
        intervals,
    )
    from recsys.ids import IdMap
    from recsys.interactions import Interactions
    from recsys.models import (
        AAE,
        ALI,
        ALS,
        BPR,
        CDAE,
        DLAE,
        EASE,
        EDLAE,
        ELSA,
        FLVAE,
        RDLAE,
        SANSA,
        UAE,
        VAE,
        VAEGAN,
        VASP,
        BottleneckAE,
        ContractiveAE,
        DeepAutoRec,
        DeepRecommender,
        DenoisingAE,
        FeatureConsistentAE,
        GLocalK,
        HigherOrderEASE,
        HVamp,
        IAutoRec,
        InfiniteAE,
        ItemKNN,
        MultDAE,
        MultVAE,
        Popularity,
        RecVAE,
        SparseAE,
        SparseFC,
        UAutoRec,
        load,
    )
    from recsys.scoring import recommend_frame, score
    from recsys.splits import Part, Split

    __version__: str

__all__ = [
    "AAE",
    "ALI",
    "ALS",
    "BPR",
    "CDAE",
    "DLAE",
    "EASE",
    "EDLAE",
    "ELSA",
    "FLVAE",
    "RDLAE",
    "SANSA",
    "UAE",
    "VAE",
    "VAEGAN",
    "VASP",
    "BottleneckAE",
    "Comparison",
    "ContractiveAE",
    "DataReport",
    "DeepAutoRec",
    "DeepRecommender",
    "DenoisingAE",
    "Evaluation",
    "FeatureConsistentAE",
    "GLocalK",
    "HVamp",
    "HigherOrderEASE",
    "IAutoRec",
    "IdMap",
    "InfiniteAE",
    "Interactions",
    "ItemKNN",
    "MultDAE",
    "MultVAE",
    "Part",
    "Popularity",
    "RecVAE",
    "SparseAE",
    "SparseFC",
    "Split",
    "UAutoRec",
    "Validation",
    "__version__",
    "activity_groups",
    "cold_user_curve",
    "compare",
    "datasets",
    "describe",
    "errors",
    "evaluate",
    "intervals",
    "leaks",
    "load",
    "metrics",
    "recommend_frame",
    "report",
    "score",
    "splits",
]

_HOMES = {
    "data_report": ("DataReport", "describe", "leaks"),
    "evaluation": (
        "Comparison",
        "Evaluation",
        "Validation",
        "activity_groups",
        "cold_user_curve",
        "compare",
        "evaluate",
        "intervals",
    ),
    "ids": ("IdMap",),
    "interactions": ("Interactions",),
    "scoring": ("recommend_frame", "score"),
    "splits": ("Part", "Split"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        try:
            return version("recsys")
        except PackageNotFoundError:
            raise AttributeError("recsys has no version: it runs from its source and is not installed") from None
    if name in ("datasets", "errors", "metrics", "report", "splits"):
        return import_module(f"recsys.{name}")
    if name in __all__:
        return getattr(import_module(f"recsys.{_HOME.get(name, 'models')}"), name)
    raise AttributeError(f"module 'recsys' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__

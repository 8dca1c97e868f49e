"""The one place that asks a model for the graph of its scores."""

from __future__ import annotations

from torch import nn

from recsys.errors import UnsupportedError
from recsys.models.base import Recommender


def score_graph(model: Recommender) -> nn.Module:
    """Return a module of `DenseRows` that gives the scores of a fitted model.

    Raises:
        UnsupportedError: its scores are no function of a dense row, or are computed by other code than its graph's.
    """
    name = type(model).__name__
    if reason := model.capabilities.no_graph:
        raise UnsupportedError(
            f"{name} cannot be exported to ONNX: {reason}; export UAutoRec, MultVAE or EASE in its place"
        )
    owners = [next(cls for cls in type(model).__mro__ if method in vars(cls)) for method in ("_graph", "_scores")]
    if not issubclass(*owners):
        raise UnsupportedError(
            f"{name} cannot be exported to ONNX: it scores in a way of its own; define _graph beside its _scores"
        )
    return model._graph()

"""Models as ONNX graphs, for runtimes without Python: dense histories in, scores out.

A network runs as it is, on rows that are dense (`recsys.sparse.DenseRows`) where training and ranking have sparse ones;
a linear model is one product. What a graph cannot say is refused with the reason.
"""

from __future__ import annotations

import logging
import os
import uuid
import warnings
from collections.abc import Sequence
from functools import singledispatch
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recsys.errors import ConfigError, UnsupportedError
from recsys.models import (
    ELSA,
    SANSA,
    VASP,
    HigherOrderEASE,
    InfiniteAE,
    ItemKNN,
    Popularity,
    Recommender,
)
from recsys.models.autoencoder import Autoencoder
from recsys.models.autorec import AutoRec
from recsys.models.baselines import Factors
from recsys.models.biases import Biases
from recsys.models.linear import LinearAutoencoder
from recsys.nn.products import weighted_rows
from recsys.sparse import DenseRows

INPUT, OUTPUT = "histories", "scores"
LARGEST = 2_000_000_000
"""Bytes of weights from which one ONNX file cannot hold a model: a protocol buffer ends at 2 GiB."""


def export_onnx(model: Recommender, file: str | Path) -> Path:
    """Write a fitted model as an ONNX graph, whole or not at all.

    The graph's input `histories` is float32, (batch, n_items) for any batch, columns in the order of the model's items;
    0 stands for what a history does not hold, so that a stored 0.0, unlike in `recommend`, counts as nothing. Its
    output `scores`, (batch, n_items), are what `recommend` ranks for users without learned vectors (index −1), seen
    items included; the entries are not checked.

    Args:
        file: a name that ends in `.onnx`; replaced if it exists.

    Returns:
        The file.

    Raises:
        NotFittedError: the model is not fitted.
        UnsupportedError: no graph computes its scores, or its weights take more than one file holds.
        ConfigError: onnx or onnxscript are not installed, or the name ends otherwise.
    """
    model._check_fitted()
    target = Path(file)
    if target.suffix != ".onnx":
        raise ConfigError(f"expected a file name that ends in .onnx, got {target.name!r}")
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"exporting needs {' and '.join(missing)}; install them in the project's folder: pip install '.[onnx]'"
        )
    graph = ScoreGraph(model)
    size = sum(tensor.nbytes for tensor in graph.state_dict().values())
    if size > LARGEST:
        raise UnsupportedError(
            f"this {type(model).__name__} has {size / 1e9:.1f} GB of weights and an ONNX file holds 2 GB; "
            "filter rare items before fitting, or use a model whose size does not grow with items × items"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.stem}.{uuid.uuid4().hex[:8]}.onnx")
    try:
        _write(graph, torch.zeros(2, model.n_items_, device=graph.popularity.device), beside, [OUTPUT])
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)
    return target


def _write(graph: nn.Module, example: Tensor, file: Path, outputs: Sequence[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter's own code
            torch.onnx.export(
                graph.eval(),
                (example,),
                str(file),
                input_names=[INPUT],
                output_names=outputs,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class ScoreGraph(nn.Module):
    """What is exported: a model's scores of dense histories, popularity where a model is silent on an empty one."""

    popularity: Tensor

    def __init__(self, model: Recommender) -> None:
        """Raise UnsupportedError where the model's scores are no function of a dense row."""
        super().__init__()
        self.scores = scoring_of(model)
        self.silent = model.capabilities.popularity_fallback
        device = next((tensor.device for tensor in self.scores.state_dict().values()), torch.device("cpu"))
        self.register_buffer("popularity", torch.from_numpy(np.array(model.popularity_)).to(device))

    def forward(self, histories: Tensor) -> Tensor:
        """Return (n, n_items) scores of (n, n_items) histories."""
        scores: Tensor = self.scores(DenseRows(histories))
        if self.silent:
            scores = torch.where((histories != 0).any(1, keepdim=True), scores, self.popularity)
        return scores


class NetworkScores(nn.Module):
    """The scores of an autoencoder: encode, decode, output."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        output = self.network.output
        return F.linear(self.network.decode(self.network.encode(rows)), output.weight, output.bias)


class CentredScores(NetworkScores):
    """Those of a network that reads ratings less their mean."""

    def __init__(self, network: Any, mean: float) -> None:
        super().__init__(network)
        self.mean = mean

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        values = rows.values
        return super().forward(DenseRows(torch.where(values != 0, values - self.mean, 0.0)))


class UnbiasedScores(NetworkScores):
    """Those of a network that reads ratings less their mean and biases, with the biases added again."""

    items: Tensor

    def __init__(self, network: Any, biases: Biases) -> None:
        super().__init__(network)
        self.mean, self.damping = biases.mean, biases.damping
        self.register_buffer("items", torch.from_numpy(biases.items).to(network.output.bias))

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        stored = (rows.values != 0).to(self.items)
        rest = rows.values - stored * (self.mean + self.items)
        count = stored.sum(1, keepdim=True) + self.damping
        users = rest.sum(1, keepdim=True) / torch.where(count > 0, count, torch.ones_like(count))
        return super().forward(DenseRows(rest - stored * users)) + self.items + users


class LessOwnScores(NetworkScores):
    """Those of a network whose scores leave the history itself out."""

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        return super().forward(rows) - rows.values


class ParallelScores(NetworkScores):
    """Those of a network beside whose logits stand those of a linear path: the log of both sigmoids' product."""

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        shallow = weighted_rows(self.network.item_weights, rows, rows.values)
        return F.logsigmoid(super().forward(rows)) + F.logsigmoid(shallow)


class LinearScores(nn.Module):
    """One product of the history, and of products of pairs of its columns, with a table."""

    weights: Tensor
    pairs: Tensor

    def __init__(self, weights: Tensor, pairs: Tensor | None = None) -> None:
        """`weights` (n_items + n_pairs, n_items); `pairs` (n_pairs, 2) int64."""
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("pairs", torch.empty(0, 2, dtype=torch.int64) if pairs is None else pairs)

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        values = rows.values
        if len(self.pairs):
            values = torch.cat([values, values[:, self.pairs[:, 0]] * values[:, self.pairs[:, 1]]], 1)
        return values @ self.weights


class SameScores(nn.Module):
    """The same scores for every history."""

    values: Tensor

    def __init__(self, values: Tensor) -> None:
        """`values` (n_items,)."""
        super().__init__()
        self.register_buffer("values", values)

    def forward(self, rows: DenseRows) -> Tensor:
        """Return (n, n_items)."""
        return self.values.expand(rows.values.shape[0], -1)


def scoring_of(model: Recommender) -> nn.Module:
    """Return a module that scores `DenseRows` as the model scores histories.

    Raises:
        UnsupportedError: there is none; the message says why.
    """
    known = next((owner for owner in type(model).__mro__ if owner in _scoring.registry), object)
    if getattr(known, "_scores", None) is not type(model)._scores:
        raise UnsupportedError(
            f"{type(model).__name__} cannot be exported to ONNX: it scores in a way of its own, for which "
            "recsys.export has no graph"
        )
    return _scoring(model)


@singledispatch
def _scoring(model: Recommender) -> nn.Module:
    raise NotImplementedError


@_scoring.register(Autoencoder)
def _(model: Any) -> nn.Module:
    return NetworkScores(model.network_)


@_scoring.register
def _(model: AutoRec) -> nn.Module:
    if model.capabilities.no_graph:
        return _folded_in(model)
    if model.biases_ is not None:
        return UnbiasedScores(model.network_, model.biases_)
    return CentredScores(model.network_, model.mean_)


@_scoring.register(Factors)
def _folded_in(model: Recommender) -> nn.Module:
    raise UnsupportedError(
        f"{type(model).__name__} cannot be exported to ONNX: it finds a user's vector by solving equations, for which "
        "ONNX has no operator; export UAutoRec, MultVAE or EASE in its place"
    )


@_scoring.register
def _(model: InfiniteAE) -> nn.Module:
    raise UnsupportedError(
        "InfiniteAE cannot be exported to ONNX: it compares a history with that of every training user, whom the file "
        "would hold as dense rows; export EASE or MultVAE in its place"
    )


@_scoring.register
def _(model: ELSA) -> nn.Module:
    return LessOwnScores(model.network_)


@_scoring.register
def _(model: VASP) -> nn.Module:
    return ParallelScores(model.network_)


@_scoring.register
def _(model: LinearAutoencoder) -> nn.Module:
    return LinearScores(model.weights_)


@_scoring.register
def _(model: HigherOrderEASE) -> nn.Module:
    return LinearScores(model.weights_, torch.from_numpy(model.pairs_.astype(np.int64)).to(model.weights_.device))


@_scoring.register
def _(model: SANSA) -> nn.Module:
    whole = model.encoder_ @ model.decoder_ + sp.identity(model.n_items_, np.float32, "csr")
    return LinearScores(torch.from_numpy(whole.toarray()))


@_scoring.register
def _(model: ItemKNN) -> nn.Module:
    return LinearScores(torch.from_numpy(model.similarity_.toarray()))


@_scoring.register
def _(model: Popularity) -> nn.Module:
    return SameScores(model.counts_)

"""Models as ONNX graphs, for runtimes without Python: dense histories in, scores out.

A model gives its scores as a module (`_graph`, made of `recsys.nn.graphs`) that runs on dense rows
(`recsys.sparse.DenseRows`), where training and ranking have sparse ones; one that declares `no_graph` is refused with
that reason.
"""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recsys.errors import ConfigError, UnsupportedError
from recsys.files import replacing
from recsys.models import Recommender
from recsys.models.graph import score_graph
from recsys.sparse import DenseRows
from recsys.workspace import as_path, output_file

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
        file: a name that ends in `.onnx`; a file of that name is replaced, a link followed.

    Returns:
        The file.

    Raises:
        NotFittedError: the model is not fitted.
        UnsupportedError: no graph computes its scores, or its weights take more than one file holds.
        ConfigError: onnx or onnxscript are not installed, the name ends otherwise, or nothing can be written there.
    """
    model._check_fitted()
    target = graph_file(named := as_path(file))
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
    with replacing(target) as beside:
        _write(graph, torch.zeros(2, model.n_items_, device=graph.popularity.device), beside, [OUTPUT])
    return named


def graph_file(file: Path) -> Path:
    """Return the file to write for a graph of that name; a ConfigError where `export_onnx` would raise one."""
    if file.suffix != ".onnx":
        raise ConfigError(f"expected a file name that ends in .onnx, got {file.name!r}")
    return output_file(file, "the graph")


def _write(graph: nn.Module, example: Tensor, file: Path, outputs: list[str]) -> None:
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
    """What is exported: a model's scores of dense histories, popularity where they are all 0."""

    popularity: Tensor

    def __init__(self, model: Recommender) -> None:
        """Raise UnsupportedError where the model's scores are no function of a dense row."""
        super().__init__()
        self.scores = score_graph(model)
        self.silent = model.capabilities.popularity_fallback
        device = next((tensor.device for tensor in self.scores.state_dict().values()), torch.device("cpu"))
        self.register_buffer("popularity", torch.from_numpy(np.array(model.popularity_)).to(device))

    def forward(self, histories: Tensor) -> Tensor:
        """Return (n, n_items) scores of (n, n_items) histories."""
        scores: Tensor = self.scores(DenseRows(histories))
        if self.silent:
            scores = torch.where((scores != 0).any(1, keepdim=True), scores, self.popularity)
        return scores

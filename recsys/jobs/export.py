"""Write a model as a graph for runtimes without Python."""

from __future__ import annotations

from pathlib import Path

from recsys.export import INPUT, OUTPUT, export_onnx
from recsys.jobs.common import load_model
from recsys.workspace import Workspace


def run(workspace: Workspace, model: str, onnx: Path) -> Path:
    """Write the model's ONNX graph, print what goes in and out, and return the file.

    Raises:
        UnsupportedError: no graph computes this model's scores.
        ConfigError: the extra `onnx` is not installed, or the file name does not end in `.onnx`.
    """
    fitted, _ = load_model(workspace, model)
    file = export_onnx(fitted, onnx)
    shape = f"(batch, {fitted.n_items_})"
    print(f"{file}: {INPUT} {shape} float32 to {OUTPUT} {shape}, columns in the order of the model's items.parquet")
    return file

"""Write a model as a graph for runtimes without Python."""

from __future__ import annotations

from pathlib import Path

from recsys.export import INPUT, OUTPUT, export_onnx
from recsys.jobs.common import load_model


def run(uri: str, onnx: Path, *, root: Path | None = None) -> Path:
    """Write the model's ONNX graph, print what goes in and out, and return the file.

    Raises:
        UnsupportedError: no graph computes this model's scores.
        ConfigError: the extra `onnx` is not installed, or the file name does not end in `.onnx`.
    """
    model, _ = load_model(uri, root)
    file = export_onnx(model, onnx)
    shape = f"(batch, {model.n_items_})"
    print(f"{file}: {INPUT} {shape} float32 to {OUTPUT} {shape}, columns in the order of the model's items.parquet")
    return file

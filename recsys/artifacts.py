"""Bundles: saved models as folders of plain files. Loading one never executes code.

`config.json` holds the model's name, hyperparameters and learned scalars, the schema version, and the SHA-256 of every
file including itself; `weights.safetensors` holds the arrays, `items.parquet` and `users.parquet` the external ids if
there are any, `metrics.json` the measured metrics. A file that is changed or not listed is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from recsys.columns import ITEM, TITLE, USER
from recsys.errors import BundleError
from recsys.files import replacing_folder, sha256_of_file, sha256_of_json
from recsys.ids import IdMap

SCHEMA = 2
"""Version of the layout; newer versions are refused. Version 1 had no checksum of `config.json` itself."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """The contents of a saved model."""

    model: str
    """Name of the class."""
    params: Mapping[str, Any]
    """Hyperparameters, as JSON values."""
    state: Mapping[str, Any]
    """Learned scalars and records, as JSON values."""
    arrays: Mapping[str, npt.NDArray[Any]]
    """Learned arrays."""
    users: IdMap | None = None
    items: IdMap | None = None
    titles: npt.NDArray[np.object_] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    """Origin of the model: data, configuration, run."""
    module: str | None = None
    """Module of the class, which must be imported before the bundle can be loaded; None in old bundles."""


def write_bundle(bundle: Bundle, path: str | Path) -> None:
    """Write the bundle as a folder, completely or not at all; a bundle already at `path` is replaced.

    Raises:
        BundleError: `path` exists and is not a bundle, or an id cannot be stored in parquet.
    """
    target = Path(path)
    if target.exists():
        try:
            _read_config(target)
        except BundleError as error:
            raise BundleError(f"refused to replace {target}; choose another path or remove it: {error}") from None
    with replacing_folder(target) as beside:
        arrays = {name: np.asarray(array, order="C") for name, array in bundle.arrays.items()}
        save_file(arrays, beside / "weights.safetensors")
        if bundle.items is not None:
            _write_ids(beside / "items.parquet", ITEM, bundle.items, bundle.titles)
        if bundle.users is not None:
            _write_ids(beside / "users.parquet", USER, bundle.users)
        (beside / "metrics.json").write_text(json.dumps(dict(bundle.metrics), indent=2))
        config = {
            "schema": SCHEMA,
            "model": bundle.model,
            "module": bundle.module,
            "params": dict(bundle.params),
            "state": dict(bundle.state),
            "about": dict(bundle.about),
            "files": {file.name: sha256_of_file(file) for file in sorted(beside.iterdir())},
        }
        (beside / "config.json").write_text(json.dumps({**config, "checksum": _checksum(config)}, indent=2))


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle after checking every file against its recorded checksum.

    Raises:
        BundleError: there is no bundle, its schema is newer, or a file is missing, truncated, changed or not listed.
    """
    folder = Path(path)
    config = _read_config(folder)
    if config["schema"] > 1 and config.get("checksum") != _checksum(config):
        raise BundleError(f"{folder / 'config.json'} does not match its recorded checksum: it was changed")
    listed = {"config.json", *config["files"]}
    # Hidden files, such as .DS_Store, belong to the operating system.
    foreign = [file.name for file in sorted(folder.iterdir()) if file.name not in listed and file.name[0] != "."]
    if foreign:
        raise BundleError(
            f"{folder} holds {', '.join(foreign)}, which its config.json does not list: a saved model is data that it "
            "lists, and nothing else is read; remove what was added if you know where it comes from"
        )
    for name, digest in config["files"].items():
        file = folder / Path(name).name
        if not file.is_file():
            raise BundleError(f"{folder} is incomplete: {name} is missing")
        if sha256_of_file(file) != digest:
            raise BundleError(f"{file} does not match its recorded checksum: it is truncated or was changed")
    if not {"weights.safetensors", "metrics.json"} <= set(config["files"]):
        raise BundleError(f"{folder} is incomplete: it lists no weights or no metrics")
    try:
        arrays = load_file(folder / "weights.safetensors")
        users, _ = _read_ids(folder / "users.parquet", USER)
        items, titles = _read_ids(folder / "items.parquet", ITEM)
    except (SafetensorError, pa.ArrowException, KeyError) as error:
        raise BundleError(f"{folder} cannot be read: {error}") from None
    return Bundle(
        model=config["model"],
        module=config.get("module"),
        params=config["params"],
        state=config["state"],
        arrays=arrays,
        users=users,
        items=items,
        titles=titles,
        metrics=_read_json(folder / "metrics.json", folder),
        about=config["about"],
    )


def _write_ids(path: Path, column: str, ids: IdMap, titles: npt.NDArray[np.object_] | None = None) -> None:
    if ids.kind == "other" and len(ids):
        first = next(iter(ids))
        if type(first) not in (bytes, bool) and not hasattr(first, "isoformat"):
            kind = type(first).__name__
            raise BundleError(f"ids of type {kind} cannot be stored in a file; use integers, strings or dates")
    table = {column: pa.array(ids.ids())}
    if titles is not None:
        table[TITLE] = pa.array(titles.tolist(), pa.string())
    pq.write_table(pa.table(table), path, compression="zstd")


def _read_ids(path: Path, column: str) -> tuple[IdMap | None, npt.NDArray[np.object_] | None]:
    if not path.exists():
        return None, None
    table = pq.read_table(path)
    titles = np.array(table[TITLE].to_pylist(), dtype=object) if TITLE in table.column_names else None
    return IdMap(table[column].to_pandas()), titles


def _read_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / "config.json", folder)
    schema = config.get("schema")
    expected = {"model": str, "params": dict, "state": dict, "about": dict, "files": dict}
    if isinstance(schema, int) and schema > SCHEMA:
        raise BundleError(f"{folder} has schema {schema}, this version reads up to {SCHEMA}; upgrade recsys")
    if not isinstance(schema, int) or not all(isinstance(config.get(key), kind) for key, kind in expected.items()):
        raise BundleError(f"{folder} is not a saved model of this package: its config.json lacks the expected keys")
    return config


def _checksum(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the contents of a `config.json` without its own checksum."""
    return sha256_of_json({key: value for key, value in config.items() if key != "checksum"})


def _read_json(path: Path, folder: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError:
        raise BundleError(f"{folder} holds no saved model: there is no {path.name}") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value

"""Bundles: saved models as folders of plain files. Loading one never executes code.

`config.json` holds the model's name, hyperparameters and learned scalars, the schema version, and the SHA-256 of every
file including itself; `weights.safetensors` holds the arrays, `items.parquet` and `users.parquet` the external ids if
there are any, `metrics.json` the measured metrics. A file that is changed or not listed is refused.

A checksum shows damage, not intent: whoever changes a file can compute it anew. So nothing is believed because it
matches. No link is followed out of the folder, no name leads out of it, and what would take far more memory than the
files is refused before it is decoded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

from recsys.columns import ITEM, TITLE, USER
from recsys.errors import BundleError
from recsys.files import replacing_folder, sha256_of_file, sha256_of_json
from recsys.ids import IdMap
from recsys.outputs import Kind
from recsys.workspace import output_folder

SCHEMA = 2
"""Version of the layout; newer versions are refused. Version 1 had no checksum of `config.json` itself."""
DEEPEST = 100
"""Levels of lists and objects that a JSON file may have; Python's own readers and writers end at about 1,000."""
EXPANDS, AT_LEAST = 256, 2**24
"""Bytes that ids and titles may take for each byte of all files, and what they may take in any case: zstd brings a
million addresses that differ in a number to a sixtieth."""


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

    A link to a folder is followed. Of a bundle that is replaced only the files that it lists are removed.

    Raises:
        BundleError: `path` is or holds what is not of a bundle, an id cannot be stored in parquet, or `read_bundle`
            would refuse what was written.
    """
    try:
        target = output_folder(Path(path), BundleError)
        BUNDLE.check(target)
    except BundleError as error:
        raise BundleError(f"refused to replace {path}; choose another path or remove it: {error}") from None
    with replacing_folder(target, durable=True, kind=BUNDLE) as beside:
        arrays = {name: np.asarray(array, order="C") for name, array in bundle.arrays.items()}
        save_file(arrays, beside / "weights.safetensors")
        if bundle.items is not None:
            _write_ids(beside / "items.parquet", ITEM, bundle.items, bundle.titles)
        if bundle.users is not None:
            _write_ids(beside / "users.parquet", USER, bundle.users)
        _write_json(beside / "metrics.json", dict(bundle.metrics))
        files = {file.name: sha256_of_file(file) for file in sorted(beside.iterdir())}
        config = {
            "schema": SCHEMA,
            "model": bundle.model,
            "module": bundle.module,
            "params": dict(bundle.params),
            "state": dict(bundle.state),
            "about": dict(bundle.about),
            "files": files,
        }
        _write_json(beside / "config.json", {**config, "checksum": _checksum(config)})
        _read_metrics(beside)
        _read_ids(beside, files)


def read_bundle(path: str | Path) -> Bundle:
    """Read a bundle after checking every file against its recorded checksum.

    Raises:
        BundleError: there is no bundle, its schema is newer, a file is missing, truncated, changed, not listed or no
            plain file of the folder, or what it holds is no saved model.
    """
    folder = Path(path)
    config = read_config(folder)
    try:
        _check_files(folder, config["files"])
    except OSError as error:
        raise BundleError(f"{folder} cannot be read: {error}") from None
    try:
        arrays = load_file(folder / "weights.safetensors")
    except Exception as error:  # safetensors and numpy raise whatever a header of nonsense leads them to
        raise BundleError(f"{folder / 'weights.safetensors'} cannot be read: {error}") from error
    users, items, titles = _read_ids(folder, config["files"])
    return Bundle(
        model=config["model"],
        module=config.get("module"),
        params=config["params"],
        state=config["state"],
        arrays=arrays,
        users=users,
        items=items,
        titles=titles,
        metrics=_read_metrics(folder),
        about=config["about"],
    )


def _listed(folder: Path) -> list[str] | None:
    """Return the files of a bundle, `config.json` last; None where it has none of ours."""
    try:
        files = _read_config(folder)["files"]
    except BundleError:
        return None
    return [*files, "config.json"] if all(map(_is_name, files)) else None


_FILES = ("weights.safetensors", "items.parquet", "users.parquet", "metrics.json", "config.json")
BUNDLE: Final = Kind("a saved model", BundleError, "config.json", _listed, _FILES.__contains__)
"""The folder that `write_bundle` leaves."""


def _check_files(folder: Path, files: Mapping[str, Any]) -> None:
    """Raise a BundleError unless the folder holds these files, as they were written, and no others."""
    listed = {"config.json", *files}
    # Hidden files, such as .DS_Store, belong to the operating system.
    foreign = [file.name for file in sorted(folder.iterdir()) if file.name not in listed and file.name[0] != "."]
    if foreign:
        raise BundleError(
            f"{folder} holds {', '.join(foreign)}, which its config.json does not list: a saved model is data that it "
            "lists, and nothing else is read; remove what was added if you know where it comes from"
        )
    for name, digest in files.items():
        if not _is_name(name):
            raise BundleError(f"{folder / 'config.json'} lists {name!r}, which is not the name of a file beside it")
        file = _plain(folder, name)
        if not file.exists():
            raise BundleError(f"{folder} is incomplete: {name} is missing")
        if sha256_of_file(file) != digest:
            raise BundleError(f"{file} does not match its recorded checksum: it is truncated or was changed")
    if not {"weights.safetensors", "metrics.json"} <= set(files):
        raise BundleError(f"{folder} is incomplete: it lists no weights or no metrics")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the contents of a bundle's `config.json`, checked; of the files beside it nothing is read.

    Raises:
        BundleError: there is none, its schema is newer, it was changed, or it lacks what a saved model has.
    """
    config = _read_config(folder)
    if config["schema"] > 1 and config.get("checksum") != _checksum(config):
        raise BundleError(f"{folder / 'config.json'} does not match its recorded checksum: it was changed")
    return config


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


def _read_ids(folder: Path, files: Iterable[str]) -> tuple[IdMap | None, IdMap | None, npt.NDArray[np.object_] | None]:
    """Return users, items and titles; None where the bundle lists no such file, or no titles."""
    sizes = {name: _plain(folder, name).stat().st_size for name in files}
    room = AT_LEAST + EXPANDS * sum(sizes.values())
    found: dict[str, npt.NDArray[Any] | pd.Series[Any] | None] = dict.fromkeys((USER, ITEM, TITLE))
    ids: dict[str, IdMap] = {}
    for name, columns in (("users.parquet", (USER,)), ("items.parquet", (ITEM, TITLE))):
        if name in sizes:
            try:
                found |= _read_columns(folder / name, columns, room)
                ids[columns[0]] = IdMap(found[columns[0]])  # type: ignore[arg-type]
            except Exception as error:  # Arrow and pandas raise whatever a file of nonsense leads them to
                raise BundleError(f"{folder / name} cannot be read: {error}") from error
    return ids.get(USER), ids.get(ITEM), found[TITLE]  # type: ignore[return-value]


def _read_columns(path: Path, columns: tuple[str, ...], room: int) -> dict[str, npt.NDArray[Any] | pd.Series[Any]]:
    """Return the columns that a file has of these; the first is that of ids and must be there.

    Raises:
        BundleError: they are of other types, or by the file's own figures would take more than `room` bytes.
    """
    with pq.ParquetFile(path) as file:
        schema, figures = file.schema_arrow, file.metadata
    kinds = {name: schema.field(name).type for name in columns if name in schema.names}
    for name in columns:
        kind = kinds.get(name, pa.string() if name == TITLE else None)
        if kind is None or not (pa.types.is_string(kind) or (name != TITLE and _is_id(kind))):
            expected = "text" if name == TITLE else "integers, text or dates"
            raise BundleError(f"it must have a column {name} of {expected}, got {kind or 'no such column'}")
    groups = [figures.row_group(number) for number in range(figures.num_row_groups)]
    pages = [group.column(place) for group in groups for place in range(group.num_columns)]
    size = 8 * max(figures.num_rows, sum(group.num_rows for group in groups))
    size += sum(page.total_uncompressed_size for page in pages)
    if size > room or not all(set(page.encodings) <= _ENCODINGS for page in pages):
        raise BundleError(f"it would take far more memory than disk ({size:,} bytes); nothing was decoded")
    # Text stays a dictionary, so that equal titles share one string.
    texts = [name for name, kind in kinds.items() if pa.types.is_string(kind)]
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        table = file.read(list(kinds))
    return {name: _texts(table[name]) if name in texts else table[name].to_pandas() for name in kinds}


_ENCODINGS = {"PLAIN", "PLAIN_DICTIONARY", "RLE", "RLE_DICTIONARY", "BIT_PACKED"}
"""What Arrow writes unless told otherwise. Texts in other encodings can be as long as all texts before them."""


def _is_id(kind: pa.DataType) -> bool:
    """Return whether an Arrow type may be that of ids; floats are refused by `IdMap`."""
    return bool(pa.types.is_primitive(kind) or pa.types.is_binary(kind))


def _texts(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """Return a column of dictionaries as strings, None where a text is missing; equal ones are one object."""
    parts = [np.empty(0, dtype=object)]
    for chunk in column.chunks:
        words = np.array([*chunk.dictionary.to_pylist(), None], dtype=object)
        parts.append(words[chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _read_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder, "config.json")
    schema = config.get("schema")
    expected = {"model": str, "params": dict, "state": dict, "about": dict, "files": dict}
    if type(schema) is int and schema > SCHEMA:
        raise BundleError(f"{folder} has schema {schema}, this version reads up to {SCHEMA}; upgrade recsys")
    known = type(schema) is int and schema >= 1 and _is_module(config.get("module"))
    if not known or not all(isinstance(config.get(key), kind) for key, kind in expected.items()):
        raise BundleError(f"{folder} is not a saved model of this package: its config.json lacks the expected keys")
    return config


def _is_name(name: str) -> bool:
    """Return whether a text names a file of the folder itself."""
    return Path(name).name == name and "\\" not in name and "\0" not in name


def _is_module(name: Any) -> bool:
    return name is None or (isinstance(name, str) and all(part.isidentifier() for part in name.split(".")))


def _read_metrics(folder: Path) -> dict[str, Any]:
    """Return the measured metrics: numbers by name, NaN for what could not be measured."""
    metrics = _read_json(folder, "metrics.json")
    for name, value in metrics.items():
        if type(value) not in (int, float) or abs(value) > sys.float_info.max:
            raise BundleError(f"{folder / 'metrics.json'} must hold numbers by name, got {value!r} for {name!r}")
    return metrics


def _checksum(config: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the contents of a `config.json` without its own checksum."""
    return sha256_of_json({key: value for key, value in config.items() if key != "checksum"})


def _plain(folder: Path, name: str) -> Path:
    """Return the path of a file of the folder, which need not exist; a BundleError if it is a link or no file."""
    path = folder / name
    if path.is_symlink():
        raise BundleError(f"{path} is a link: a saved model is read from its own folder alone; put the file there")
    if path.exists() and not path.is_file():
        raise BundleError(f"{path} cannot be read: it is not a file")
    return path


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON; a BundleError if it could not be read back."""
    text = json.dumps(value, indent=2)
    path.write_text(text, encoding="utf-8")
    _read_json(path.parent, path.name)


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = _plain(folder, name)
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
        _check_nesting([value])
    except FileNotFoundError:
        raise BundleError(f"{folder} holds no saved model: there is no {path.name}") from None
    except RecursionError:
        raise BundleError(f"{path} cannot be read: it is nested deeper than {DEEPEST} levels") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{path} must hold a JSON object, got {type(value).__name__}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; a ValueError if a key stands there twice, since readers differ in which they take."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("it has a key twice in one object")
    return value


def _check_nesting(values: Iterable[Any], depth: int = 0) -> None:
    """Raise a RecursionError if lists and objects lie too deep, a UnicodeError at text that no file can hold."""
    if depth > DEEPEST:
        raise RecursionError
    for value in values:
        if isinstance(value, str):
            value.encode()
        elif isinstance(value, dict):
            _check_nesting(value, depth + 1)  # the keys
            _check_nesting(value.values(), depth + 1)
        elif isinstance(value, list):
            _check_nesting(value, depth + 1)

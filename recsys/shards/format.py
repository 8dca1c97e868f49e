"""What a folder of shards holds, by its manifest; and its checks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from recsys.errors import DataError
from recsys.files import read_json, sha256_of_file, sha256_of_json
from recsys.outputs import Kind

FORMAT: Final = "recsys-shards"
VERSION: Final = 1
"""Version of the layout; newer ones are refused."""
MANIFEST: Final = "manifest.json"
"""Written last: a folder without it is not whole."""
SCRATCH: Final = "scratch"
"""Folder of intermediate files in a folder that is being written."""
TRAIN: Final = "train"
MOST_ENTRIES: Final = 2**31 - 1
"""Entries of a shard at most, so that their positions are int32."""

TYPES: Final[dict[str, np.dtype[Any]]] = {
    "indptr": np.dtype("<i8"),
    "indices": np.dtype("<i4"),
    "values": np.dtype("<f4"),
    "index": np.dtype("<i4"),
}
TIMES: Final[dict[str, np.dtype[Any]]] = {"int64": np.dtype("<i8"), "float64": np.dtype("<f8")}
_MATRIX: Final = r"train|(validation|test)-(context|target|seen)"
_FILE: Final = re.compile(
    rf"({_MATRIX})-[0-9]{{5,}}-(indptr|indices|values|times)\.bin|(validation|test)-index\.bin"
    r"|((validation|test)-)?users\.parquet|items\.parquet"
)


def array_name(matrix: str, shard: int, array: str) -> str:
    """Return the name of the file of an array of a shard."""
    return f"{matrix}-{shard:05d}-{array}.bin"


def is_file(name: str) -> bool:
    """Return whether a folder of shards may have a file of that name, the manifest aside."""
    return _FILE.fullmatch(name) is not None


def is_shards(folder: Path) -> bool:
    """Return whether a folder says that it holds shards, damaged or not."""
    return (read_json(folder / MANIFEST) or {}).get("format") == FORMAT


def _listed(folder: Path) -> list[str] | None:
    manifest = read_json(folder / MANIFEST) or {}
    files = manifest.get("files")
    if manifest.get("format") != FORMAT or not isinstance(files, dict) or not all(map(is_file, files)):
        return None
    return [*files, MANIFEST]


KIND: Final = Kind(
    "a folder of shards",
    DataError,
    MANIFEST,
    _listed,
    unfinished=lambda name: is_file(name) or name == MANIFEST or name.startswith(f"{SCRATCH}/"),
    folders=(SCRATCH,),
)
"""The folder that `write` leaves; what is not of it is not replaced."""


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a folder whose files are written."""
    whole = {"format": FORMAT, "version": VERSION, **facts}
    text = json.dumps({**whole, "checksum": sha256_of_json(whole)}, indent=1, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder, after checking it and that its files are there in their sizes.

    Raises:
        DataError: there is none, it is of a newer version or was changed, or a file is missing or of another size.
    """
    path = folder / MANIFEST
    if not folder.is_dir() or not path.exists():
        raise DataError(f"{folder} holds no shards: there is no {MANIFEST}; make them with recsys prepare")
    manifest = read_json(path)
    if manifest is None or manifest.get("format") != FORMAT:
        raise DataError(f"{path} is not the manifest of shards of this package, or damaged")
    version = manifest.get("version")
    if type(version) is int and version > VERSION:
        raise DataError(f"{folder} has version {version} of shards, this one reads up to {VERSION}; upgrade recsys")
    without = {key: value for key, value in manifest.items() if key != "checksum"}
    if version != VERSION or manifest.get("checksum") != sha256_of_json(without):
        raise DataError(f"{path} does not match its checksum: it was changed or damaged")
    files = manifest["files"]
    for name, facts in files.items():
        file = folder / name
        if not is_file(name):
            raise DataError(f"{path} lists {name!r}, which is no file of shards")
        if file.is_symlink() or not file.is_file():
            raise DataError(f"{folder} is incomplete: {name} is missing, or no plain file")
        if file.stat().st_size != facts["bytes"]:
            raise DataError(
                f"{file} is damaged: it has {file.stat().st_size:,} bytes, its manifest says {facts['bytes']:,}"
            )
    return manifest


def verify(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise a DataError that names the first file that does not match its checksum."""
    for name, facts in files.items():
        if sha256_of_file(folder / name) != facts["sha256"]:
            raise DataError(f"{folder / name} is damaged: it does not match its checksum")

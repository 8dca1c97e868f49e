"""Data sets by name: where copies are looked for, and which can be downloaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from recsys.datasets.download import ARCHIVES, fetch
from recsys.datasets.generator import synthetic
from recsys.datasets.readers import read
from recsys.errors import DataError, did_you_mean
from recsys.interactions import Interactions

SYNTHETIC: Final = "synthetic"
NAMES: Final = (*ARCHIVES, "gowalla-lightgcn", "douban-monti", SYNTHETIC)
"""The names that `load` knows."""

RAW: Final = Path("data") / "raw"
"""Where downloads go, relative to `root`."""


def load(
    name: str,
    *,
    path: str | Path | None = None,
    root: str | Path | None = None,
    keep: Iterable[str] = (),
    **options: Any,
) -> Interactions:
    """Return a known data set: the copy in `$RECSYS_DATA/<name>` or `data/raw/<name>`, else a download to the latter.

    Args:
        name: one of `NAMES`; `synthetic` is generated, with the options of `recsys.datasets.synthetic`.
        path: a copy elsewhere, read instead.
        root: folder that holds `data/raw`; the working directory by default.
        keep: further columns to carry along, such as a published split.
        options: passed to `recsys.datasets.read`.

    Raises:
        DataError: the name is not known, there is no copy of a data set that cannot be downloaded, or the copy
            cannot be read.
        DownloadError: the download fails.
    """
    if name not in NAMES:
        raise DataError(
            f"no data set is called {name!r}{did_you_mean(name, NAMES)}; "
            "recsys.datasets.read(path) reads a file or folder of your own"
        )
    if name == SYNTHETIC:
        if path is not None or tuple(keep):
            raise DataError("'synthetic' is generated: it has no path and no columns to keep")
        return synthetic(**options)
    return read(_find(name, path, RAW if root is None else Path(root) / RAW), keep=keep, **options)


def _find(name: str, path: str | Path | None, raw: Path) -> Path:
    """Return the path of the data set, after a download into `raw` if there is no copy yet."""
    if path is not None:
        return Path(path)
    shared = os.environ.get("RECSYS_DATA")
    places = [Path(folder).expanduser() / name for folder in (shared, raw) if folder]
    for place in places:
        if place.is_dir() and any(place.iterdir()):
            return place
    if name in ARCHIVES:
        return fetch(ARCHIVES[name], raw / name)
    raise DataError(
        f"there is no copy of {name!r} and it cannot be downloaded; looked for "
        f"{' and '.join(str(place) for place in places)}"
        f"{'' if shared else ' ($RECSYS_DATA is not set)'}; put interactions.parquet, or the publisher's own files, "
        f"into {raw / name}, or pass path="
    )

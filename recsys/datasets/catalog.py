"""Data sets by name: where copies are looked for, and downloads with checksums, which are complete or absent."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from recsys.datasets.generator import synthetic
from recsys.datasets.readers import read
from recsys.errors import DataError, DownloadError, absent, did_you_mean
from recsys.files import working_folder
from recsys.interactions import Interactions
from recsys.outputs import Kind
from recsys.workspace import as_path, output_folder

MOVIELENS: Final = "https://files.grouplens.org/datasets/movielens/"
"""Where GroupLens publishes the MovieLens archives."""

_CHUNK: Final = 2**20


@dataclass(frozen=True)
class Archive:
    """A published zip file: its name and checksum, and the names of a folder in it and of the needed files in that."""

    file: str
    md5: str
    folder: str
    members: tuple[str, ...]

    def writes(self, name: str) -> bool:
        """Return whether a download writes a file of that name, relative to its temporary folder."""
        return name == self.file or name in (f"{self.folder}/{member}" for member in self.members)


_CSV: Final = ("ratings.csv", "movies.csv", "README.txt")
_DAT: Final = ("ratings.dat", "movies.dat")

ARCHIVES: Final = {
    "ml-100k": Archive("ml-100k.zip", "0e33842e24a9c977be4e0107933c0723", "ml-100k", ("u.data", "u.item", "README")),
    "ml-1m": Archive("ml-1m.zip", "c4d9eecfca2ab87c1945afe126590906", "ml-1m", (*_DAT, "README")),
    "ml-10m": Archive("ml-10m.zip", "ce571fd55effeba0271552578f2648bd", "ml-10M100K", (*_DAT, "README.html")),
    "ml-20m": Archive("ml-20m.zip", "cd245b17a1ae2cc31bb14903e1204af3", "ml-20m", _CSV),
    "ml-25m": Archive("ml-25m.zip", "6b51fb2759a8657d3bfcbfc42b592ada", "ml-25m", _CSV),
    "ml-32m": Archive("ml-32m.zip", "d472be332d4daa821edc399621853b57", "ml-32m", _CSV),
}
"""The archives that `load` can download; their members include the publisher's terms of use."""

SYNTHETIC: Final = "synthetic"
NAMES: Final = (*ARCHIVES, "gowalla-lightgcn", "douban-monti", "citeulike-a", SYNTHETIC)
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
        keep, options: passed to `recsys.datasets.read`.

    Raises:
        DataError: the name is unknown, a data set can be neither found nor downloaded, or its copy cannot be read.
        DownloadError: the download fails.
    """
    if name not in NAMES:
        raise absent(
            DataError(
                f"no data set is called {name!r}{did_you_mean(name, NAMES)}; "
                "recsys.datasets.read(path) reads a file or folder of your own"
            )
        )
    if name == SYNTHETIC:
        if path is not None or tuple(keep):
            raise DataError("'synthetic' is generated: it has no path and no columns to keep")
        return synthetic(**options)
    return read(path or _find(name, as_path(root or "") / RAW), keep=keep, **options)


def _find(name: str, raw: Path) -> Path:
    """Return the path of the data set, after a download into `raw` if there is no copy yet."""
    shared = os.environ.get("RECSYS_DATA")
    places = [as_path(folder) / name for folder in (shared, raw) if folder]
    if found := next(filter(_is_full, places), None):
        return found
    if name in ARCHIVES:
        return fetch(ARCHIVES[name], raw / name)
    raise absent(
        DataError(
            f"there is no copy of {name!r} and it cannot be downloaded; looked for "
            f"{' and '.join(map(str, places))}{'' if shared else ' ($RECSYS_DATA is not set)'}; put "
            f"interactions.parquet, or the publisher's own files, into {raw / name}, or pass path="
        )
    )


def fetch(archive: Archive, target: str | Path, *, base_url: str = MOVIELENS) -> Path:
    """Download an archive, verify its checksum, and put its members into the folder `target`, which is returned.

    `target` is complete or absent, and two processes may fetch it at once: it is renamed from a temporary folder, which
    the next call removes if this one is killed.

    Args:
        target: folder to create; one that exists and is not empty is left as it is, and a link to one is followed.
        base_url: address of the folder that holds the zip file.

    Raises:
        DownloadError: the server or the disk fails, the transfer is cut short, the checksum differs, or a member is
            not in the zip file; nothing is left behind.
    """
    target = as_path(target)
    if _is_full(target):  # also where nothing may be written
        return target
    target = output_folder(target, DownloadError)
    url = f"{base_url.rstrip('/')}/{archive.file}"
    try:
        with working_folder(target, Kind("a download", DownloadError, "", lambda _: None, archive.writes)) as temporary:
            zipped, unpacked = temporary / archive.file, temporary / archive.folder
            _download(url, zipped, archive)
            _unpack(zipped, unpacked, archive)
            try:
                unpacked.rename(target)
            except OSError:
                if not _is_full(target):  # else another process was faster, and its copy is as good
                    raise
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(
            f"could not fetch {url}: {error}; nothing was kept. Try again, or download it yourself and unpack "
            f"its folder {archive.folder}/ as {target}"
        ) from error
    return target


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _download(url: str, path: Path, archive: Archive) -> None:
    with urllib.request.urlopen(url, timeout=60.0) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm.wrapattr(file, "write", total=size or None, desc=archive.file, disable=None) as sink:
            shutil.copyfileobj(response, sink, _CHUNK)
    received = path.stat().st_size
    if size and received != size:  # urllib reports no error when the connection closes early
        raise DownloadError(f"the transfer was cut short: expected {size:,} bytes, got {received:,}")
    with path.open("rb") as file:
        md5 = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if md5 != archive.md5:
        raise DownloadError(f"the checksum of {received:,} bytes differs: expected md5 {archive.md5}, got {md5}")


def _unpack(zipped: Path, folder: Path, archive: Archive) -> None:
    """Write the needed members into `folder`, under names that come from `archive` and never from the zip file."""
    folder.mkdir()
    with zipfile.ZipFile(zipped) as content:
        present = set(content.namelist())
        for member in archive.members:
            name = f"{archive.folder}/{member}"
            if name not in present:
                raise DownloadError(f"expected {name} in {archive.file}, found {sorted(present)[:8]}")
            with content.open(name) as source, (folder / member).open("wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)

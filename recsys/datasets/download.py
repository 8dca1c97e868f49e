"""Download of public data sets with checksums; the result is complete or absent."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tqdm import tqdm

from recsys.errors import DownloadError

MOVIELENS: Final = "https://files.grouplens.org/datasets/movielens/"
"""Where GroupLens publishes the MovieLens archives."""

_CHUNK: Final = 2**20
_TIMEOUT: Final = 60.0


@dataclass(frozen=True)
class Archive:
    """A published zip file and the files in it that are needed."""

    file: str
    """Name of the zip file under the base URL."""
    md5: str
    """Published checksum of the zip file."""
    folder: str
    """Folder inside the zip file that holds the members."""
    members: tuple[str, ...]
    """Names of the needed files in that folder."""


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


def fetch(archive: Archive, target: str | Path, *, base_url: str = MOVIELENS) -> Path:
    """Download an archive, verify its checksum, and put its members into the folder `target`.

    The work is done in a temporary folder beside `target`, which is renamed when complete: `target` is complete or
    absent, and two processes may fetch it at once.

    Args:
        archive: what to fetch.
        target: folder to create; one that exists and is not empty is left as it is.
        base_url: address of the folder that holds the zip file.

    Returns:
        The folder.

    Raises:
        DownloadError: the server or the disk fails, the transfer is cut short, the checksum differs, or a member is
            not in the zip file; nothing is left behind.
    """
    target = Path(target)
    url = f"{base_url.rstrip('/')}/{archive.file}"
    if _is_full(target):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as temporary:
            zipped = Path(temporary) / archive.file
            _download(url, zipped, archive)
            unpacked = Path(temporary) / archive.folder
            _unpack(zipped, unpacked, archive)
            _publish(unpacked, target)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, EOFError) as error:
        raise DownloadError(
            f"could not fetch {url}: {error}; nothing was kept. Try again, or download it yourself and unpack "
            f"its folder {archive.folder}/ as {target}"
        ) from error
    return target


def _is_full(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _download(url: str, path: Path, archive: Archive) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with urllib.request.urlopen(url, timeout=_TIMEOUT) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length") or 0)
        with tqdm(total=size or None, unit="B", unit_scale=True, desc=archive.file) as progress:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                digest.update(chunk)
                progress.update(len(chunk))
    received = path.stat().st_size
    if size and received != size:  # urllib reports no error when the connection closes early
        raise DownloadError(f"the transfer was cut short: expected {size:,} bytes, got {received:,}")
    if digest.hexdigest() != archive.md5:
        raise DownloadError(
            f"the checksum of {received:,} bytes differs: expected md5 {archive.md5}, got {digest.hexdigest()}"
        )


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


def _publish(unpacked: Path, target: Path) -> None:
    try:
        unpacked.rename(target)
    except OSError:
        if not _is_full(target):  # else another process was faster, and its copy is as good
            raise

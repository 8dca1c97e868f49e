"""Files of text: unpacked, and as UTF-8 whatever they are written in."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from recsys.errors import DataError

_UNICODE: Final = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_MARKS: Final = {
    "gz": rb"\x1f\x8b",
    "bz2": rb"BZh[1-9]1AY&SY",
    "zst": rb"\x28\xb5\x2f\xfd",
    "zip": rb"PK\x03\x04",
    "xz": rb"\xfd7zXZ\x00",
    "7z": rb"7z\xbc\xaf\x27\x1c",
}
"""First bytes of packed files."""
_ARCHIVES: Final = ("zip", "xz", "7z")


def content(path: Path, encoding: str | None = None) -> pa.Buffer:
    """Return a file as UTF-8 without a byte order mark, unpacked if it is compressed.

    Raises:
        DataError: it is an archive, damaged, or not of this encoding (by default UTF-8, or UTF-16 with a byte order
            mark).
    """
    named = _codec(encoding)
    whole = None if path.is_file() else path.read_bytes()  # what a pipe gives, it gives once
    with _unpacked(path, whole) as stream:
        unpacked = None if stream is None else pa.py_buffer(stream.read())
    if unpacked is None:
        unpacked = pa.memory_map(str(path)).read_buffer() if whole is None else pa.py_buffer(whole)
    buffer = unpacked
    start = bytes(buffer[:4])
    mark, found = next(((mark, name) for mark, name in _UNICODE if start.startswith(mark)), (b"", encoding or "utf-8"))
    if found == "utf-8" or named == "utf-8":
        return buffer.slice(len(mark) if found == "utf-8" else 0)
    try:
        return pa.py_buffer(bytes(buffer).decode(encoding or found).removeprefix("\ufeff").encode())
    except UnicodeError as error:
        raise DataError(f"it is not written in {encoding or found}: {error}; pass its encoding=") from None


def _codec(encoding: str | None) -> str | None:
    """Return the usual name of an encoding; a DataError if Python knows none of that name."""
    try:
        b"x".decode("utf-8" if encoding is None else encoding, "replace")  # refuses what is none of text, such as rot13
        return None if encoding is None else codecs.lookup(encoding).name
    except (LookupError, ValueError, TypeError):
        raise DataError(f"there is no encoding {encoding!r}; usual ones are utf-8, utf-16, latin-1, cp1252") from None


def first_line(path: Path) -> str:
    """Return the first line of the text of a file, each byte of it a character."""
    with _unpacked(path) as stream, path.open("rb") as file:
        text: bytes = (stream or file).read(65_536)
    for mark, name in _UNICODE:
        if text.startswith(mark):
            text = text[len(mark) :] if name == "utf-8" else text[: len(text) // 2 * 2].decode(name, "replace").encode()
    return text.split(b"\n", maxsplit=1)[0].decode("latin-1").rstrip("\r")


def bare(path: Path) -> Path:
    """Return a path without the suffix of a compression."""
    return path.with_suffix("") if path.suffix.lower() in (".gz", ".bz2", ".zst") else path


@contextmanager
def _unpacked(path: Path, whole: bytes | None = None) -> Iterator[Any]:
    """Give a compressed file unpacked, as a stream; None for a file that is not. What is damaged is a DataError.

    Args:
        whole: what the file holds, where it can be read once.
    """
    with path.open("rb") if whole is None else io.BytesIO(whole) as file:
        start = file.read(16)
        file.seek(0)
        kind = next((name for name, mark in _MARKS.items() if re.match(mark, start, re.DOTALL)), None)
        if kind in _ARCHIVES:
            raise DataError(f"it is a {kind} archive; unpack it first")
        stream: Any = None
        if kind == "gz":
            stream = gzip.GzipFile(fileobj=file)
        elif kind == "bz2":
            stream = bz2.BZ2File(file)
        elif kind == "zst":
            stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), "zstd")
        try:
            yield stream
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"it cannot be unpacked: {error}") from error


def not_utf8(text: pa.Buffer) -> DataError:
    """Return the error that names the first line that is not UTF-8."""
    try:
        bytes(text).decode()
    except UnicodeDecodeError as error:
        line = bytes(text[: error.start]).count(b"\n") + 1
        return DataError(
            f"line {line} is not UTF-8 (byte 0x{bytes(text)[error.start]:02x}); pass its encoding=, such as 'latin-1', "
            "'cp1252' or 'utf-16'"
        )
    return DataError("it is not UTF-8; pass its encoding=")

"""Delimited text: every field of every row accounted for, ids and numbers exactly as they are written."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from recsys.columns import ITEM, RATING, TIMESTAMP, TITLE, USER
from recsys.datasets.encoding import not_utf8
from recsys.errors import DataError
from recsys.frames import note_like
from recsys.ids import PLAIN_INTEGER

IdKind = Literal["auto", "text"]
"""What ids in text are: whole numbers if all of a column are written as such (`7`, not `007` or `7.0`), or text."""

_SEPARATORS: Final = (",", "\t", ";", "|")
_BLOCK: Final = 2**24
"""Bytes parsed at a time; no row may be longer."""
_DECIMAL: Final = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?$"
INTEGER: Final = f"^{PLAIN_INTEGER}$"
"""Ids that are read as whole numbers, if all of a column are."""
WHOLE: Final = r"^[-+]?[0-9]+$"
"""Values and times that are read as int64, if all of a column are."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller of `read` wants of a file: which columns, and what they know of how it is written.

    Called with the names of the columns of a table, it returns those to read: the wanted ones, or all if one that must
    be there is missing, so that the message can name the nearest.
    """

    user: str = USER
    item: str = ITEM
    rating: str | None = RATING
    timestamp: str | None = TIMESTAMP
    keep: tuple[str, ...] = ()
    separator: str | None = None
    encoding: str | None = None
    names: tuple[str, ...] | None = None
    ids: IdKind = "auto"
    sure: bool = False
    """Whether the caller named the layout."""
    item_key: str | None = None
    """The column of a table of items that holds their ids, if it is called otherwise than `item`."""
    item_title: str | None = None
    """The column of a table of items that holds their titles, if it is not called `title`."""

    def __call__(self, header: Sequence[str]) -> list[str]:
        """Return the columns to read."""
        wanted = {self.user, self.item, self.rating, self.timestamp, *self.keep}
        if not self.required <= set(header):
            return list(header)
        for name, known in ((self.rating, RATING), (self.timestamp, TIMESTAMP)):
            if name == known:
                note_like(known, header)
        return [name for name in header if name in wanted]

    @property
    def required(self) -> set[str]:
        """The columns that must be there; a rating and a timestamp of the default names need not."""
        optional = {
            self.rating if self.rating != RATING else None,
            self.timestamp if self.timestamp != TIMESTAMP else None,
        }
        return {self.user, self.item, *self.keep, *(name for name in optional if name is not None)}


def table(
    text: pa.Buffer,
    request: Request,
    *,
    separators: Sequence[str] = _SEPARATORS,
    quotes: bool = True,
    typed: bool = False,
) -> pd.DataFrame:
    """Read a table with a header, or with the names of its columns that the request gives.

    Args:
        separators: those to choose from, if the request names none.
        quotes: a field may stand in quotes; otherwise a quote is a character like others.
        typed: the header says after a colon what a column holds, as RecBole's does: `user_id:token`.

    Raises:
        DataError: a row has more or fewer fields than the header, a column is missing or named twice, or the text is
            not of this encoding.
    """
    separator, header = _header(text, request, separators, quotes, typed)
    names = _untyped(header) if typed else header
    chosen = request(names)
    if twice := sorted({name for name in chosen if names.count(name) > 1}):
        raise DataError(f"the header names {', '.join(map(repr, twice))} more than once; rename one of them")
    if not request.required <= set(names):
        _explain_header(header, request, separator)
    raw = _parsed(text, separator, header, [header[names.index(name)] for name in chosen], quotes)
    raw = raw if request.names is not None else raw.slice(1)
    texts = {name for name, full in zip(names, header, strict=True) if typed and full.endswith(":token")}
    columns = dict(zip(chosen, raw.columns, strict=True))
    found = {name: _typed(column, name, request, name in texts) for name, column in columns.items()}
    return pd.DataFrame(found, copy=False)


def _header(
    text: pa.Buffer, request: Request, separators: Sequence[str], quotes: bool, typed: bool
) -> tuple[str, list[str]]:
    """Return the separator and the fields of the header."""
    choices = [request.separator] if request.separator is not None else list(separators)
    if not all(isinstance(choice, str) and len(choice) == 1 and choice not in '"\r\n' for choice in choices):
        raise DataError(f"separator must be one character, got {request.separator!r}")
    rows = {choice: next(_rows(text, choice, quotes), (0, []))[1] for choice in choices}
    best = max(choices, key=lambda choice: len(rows[choice]))
    if not rows[best]:
        raise DataError("it holds no line with text")
    if request.names is None:
        given = {choice: set(_untyped(row) if typed else row) for choice, row in rows.items()}
        best = next((choice for choice in choices if request.required and request.required <= given[choice]), best)
        return best, rows[best]
    if rows[best] == list(request.names):
        raise DataError("its first line is a header with the names of names=; leave names= out")
    if len(rows[best]) != len(request.names):
        raise DataError(f"names= gives {len(request.names)} names, and the first line has {len(rows[best])} fields")
    return best, list(request.names)


def _untyped(header: Sequence[str]) -> list[str]:
    return [name.split(":")[0] for name in header]


def _rows(text: pa.Buffer, separator: str, quotes: bool, *, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not empty, each with the number of its first line; slow, for headers and messages."""
    lines = io.TextIOWrapper(pa.BufferReader(text), encoding="utf-8", newline="")
    csv.field_size_limit(2**31 - 1)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    reader, line = csv.reader(lines, delimiter=separator, quoting=quoting, strict=strict), 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"line {line}: {error}") from None
    except UnicodeDecodeError:
        raise not_utf8(text) from None


def batches(
    text: pa.Buffer, request: Request, *, separators: Sequence[str] = _SEPARATORS, quotes: bool = True
) -> Iterator[pa.Table]:
    """Yield the wanted columns of a table as text, some rows at a time; they are checked as `table` checks them."""
    separator, header = _header(text, request, separators, quotes, False)
    chosen = request(header)
    if twice := sorted({name for name in chosen if header.count(name) > 1}):
        raise DataError(f"the header names {', '.join(map(repr, twice))} more than once; rename one of them")
    if not request.required <= set(header):
        _explain_header(header, request, separator)
    quotes = quotes and _has_quotes(text)
    if quotes:
        _refuse_torn_quotes(text, separator)
    skip = 0 if request.names is not None else 1
    with _explaining(text, separator, header, quotes):
        for part in pacsv.open_csv(pa.BufferReader(text), *_options(separator, header, chosen, quotes)):
            yield pa.table(part.slice(skip).columns, names=chosen)
            skip = 0


def _has_quotes(text: pa.Buffer) -> bool:
    return re.search(rb'"', memoryview(text)) is not None


def _parsed(text: pa.Buffer, separator: str, header: list[str], wanted: list[str], quotes: bool) -> pa.Table:
    """Return the wanted columns as text, the row of the header among them."""
    quotes = quotes and _has_quotes(text)  # without one, blocks are parsed in parallel
    if quotes:
        _refuse_torn_quotes(text, separator)
    with _explaining(text, separator, header, quotes):
        return pacsv.read_csv(pa.BufferReader(text), *_options(separator, header, wanted, quotes))


def _options(separator: str, header: list[str], wanted: list[str], quotes: bool) -> tuple[Any, Any, Any]:
    """Return Arrow's options to read, parse and convert the wanted columns as text."""
    convert = pacsv.ConvertOptions(
        include_columns=[str(header.index(name)) for name in wanted],
        column_types={str(place): pa.string() for place in range(len(header))},
        strings_can_be_null=True,  # only an empty field is missing: an id may well be "NA" or "null"
        null_values=[""],
    )
    parse = pacsv.ParseOptions(delimiter=separator, quote_char='"' if quotes else False, newlines_in_values=quotes)
    read = pacsv.ReadOptions(column_names=[str(place) for place in range(len(header))], block_size=_BLOCK)
    return read, parse, convert


@contextmanager
def _explaining(text: pa.Buffer, separator: str, header: list[str], quotes: bool) -> Iterator[None]:
    """Name the line of what Arrow cannot parse."""
    try:
        yield
    except pa.ArrowInvalid as error:
        for line, row in _rows(text, separator, quotes):
            if len(row) != len(header):
                raise DataError(_ragged(line, row, header, separator)) from None
        raise DataError(str(error)) from None


def _ragged(line: int, row: list[str], header: list[str], separator: str) -> str:
    cause = "a field that holds the separator must stand in quotes"
    if len(row) == len(header) + 1 and line == 2:
        cause += "; a table of R is written with row.names=FALSE"
    shown = separator.join(row)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return f"line {line} has {len(row)} fields, expected {len(header)}: {shown!r}" + (
        f"; {cause}" if len(row) > len(header) else ""
    )


def _refuse_torn_quotes(text: pa.Buffer, separator: str) -> None:
    """Refuse quotes that do not enclose fields, such as "a\"b" or one that does not end: readers differ on those.

    Quotes that do are opening and closing in turn, a doubled one being both; a look at their neighbors is enough. Where
    it is not, as with a quote inside a field without quotes, the rows are read one by one.
    """
    view = np.frombuffer(text, dtype=np.uint8)
    edges = np.frombuffer(f'\r\n"{separator}'.encode(), dtype=np.uint8)
    if len(edges) > 4:  # a separator of several bytes
        return
    count, whole = 0, True
    for start in range(0, len(view), _BLOCK):
        places = start + np.flatnonzero(view[start : start + _BLOCK] == ord('"'))
        opening, closing = places[count % 2 :: 2], places[1 - count % 2 :: 2]
        before, after = view[np.maximum(opening - 1, 0)], view[np.minimum(closing + 1, len(view) - 1)]
        whole &= bool((np.isin(before, edges) | (opening == 0)).all())
        whole &= bool((np.isin(after, edges) | (closing == len(view) - 1)).all())
        count += len(places)
    if not whole or count % 2:
        for _ in _rows(text, separator, True, strict=True):
            pass


def _explain_header(header: list[str], request: Request, separator: str) -> None:
    """Refuse a first line that is none; other missing columns are named by `Interactions.from_frame`."""
    if any(re.fullmatch(r"\s*[-+]?[\d.]+\s*", name) for name in header):
        raise DataError(
            f"the first line {separator.join(header)!r} holds numbers: a file without a header? Name its columns, "
            f"names=[{request.user!r}, {request.item!r}, ...]"
        )
    if len(header) == 1:
        raise DataError(
            f"the header is one column, {header[0]!r}: which separator has the file? Pass separator=, "
            f"expected one of {', '.join(map(repr, _SEPARATORS))}"
            + ("; it holds zero bytes, so perhaps encoding='utf-16'" if "\0" in header[0] else "")
        )


def _typed(column: pa.ChunkedArray, name: str, request: Request, text: bool) -> Any:
    """Return a column of text as what it holds."""
    if name == request.rating or name == request.timestamp:
        return as_numbers(column)
    if name in (request.user, request.item):
        found = labels(column, as_text=text or request.ids == "text")
        if isinstance(found, pd.Categorical) and "\\N" in found.categories:
            raise DataError(f"column {name!r} holds \\N, by which databases mean a missing value; drop those rows")
        return found
    return labels(column, as_text=True).astype(object) if text or name == TITLE else _plain(column)


def labels(column: pa.ChunkedArray, *, as_text: bool) -> Any:
    """Return ids as int64 if all are written as whole numbers are, else as a categorical of text."""
    encoded = column.dictionary_encode().combine_chunks()
    encoded = encoded.chunk(0) if isinstance(encoded, pa.ChunkedArray) else encoded
    values, codes = encoded.dictionary, encoded.indices
    if not as_text and not codes.null_count and pc.all(pc.match_substring_regex(values, INTEGER)).as_py():
        try:
            return values.cast(pa.int64()).take(codes).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # beyond 64 bits
            pass
    places = codes.fill_null(-1).to_numpy(zero_copy_only=False)
    return pd.Categorical.from_codes(places, categories=pd.Index(values.to_pandas()))


def _plain(column: pa.ChunkedArray) -> Any:
    """Return a further column: numbers if all are written as prices are, and not as codes such as 007 or 1e5."""
    found = labels(column, as_text=False)
    if not isinstance(found, pd.Categorical):
        return found
    if pc.all(pc.match_substring_regex(column, _DECIMAL), min_count=1).as_py():
        return column.cast(pa.float64()).to_numpy()
    return found.astype(object)


def as_numbers(column: pa.ChunkedArray) -> Any:
    """Return int64 or float64, NaN where nothing is written; text as it is if it is no number."""
    if not column.null_count and pc.all(pc.match_substring_regex(column, WHOLE)).as_py():
        try:
            return column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            pass
    try:
        return column.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        points = _decimal_points(column)
    try:
        return points.cast(pa.float64()).to_numpy()
    except pa.ArrowInvalid:
        return column.to_pandas().to_numpy(dtype=object)


def _decimal_points(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return numbers with decimal commas with points, if they can be nothing else: 3,5 and not 3,500."""
    trimmed = pc.utf8_trim_whitespace(column)
    commas = pc.all(pc.match_substring_regex(trimmed, r"^[-+]?[0-9]+(,[0-9]+)?$"), min_count=0).as_py()
    thousands = pc.all(pc.match_substring_regex(trimmed, r"^[-+]?[0-9]{1,3}(,[0-9]{3})*$"), min_count=0).as_py()
    return pc.replace_substring(trimmed, ",", ".") if commas and not thousands else trimmed

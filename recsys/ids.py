"""External ids: a frozen map `external id <-> 0..n-1`, the only code that translates between them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError, OutOfRangeError, UnknownIdError

OnUnknown = Literal["raise", "drop", "mark"]
"""What a lookup does with an unknown id: raise an error, leave it out, or give it the code -1."""


class IdMap:
    """Frozen map between external ids and `0..n-1`.

    In memory, ids may be integers, strings, or any hashable of one type, such as dates, UUIDs or tuples. Parquet files
    take ids that can be read back unchanged, and a registered model takes integers and strings.

    Raises:
        DataError: ids are missing (None, NaN), repeated, floating point, or of mixed types.
    """

    __slots__ = ("_index",)
    _index: pd.Index[Any]

    def __init__(self, ids: Iterable[Hashable]) -> None:
        index = _to_index(ids)
        if not index.is_unique:
            twice = index[index.duplicated()][:3].tolist()
            raise DataError(f"an id map needs each id once; these occur more than once: {twice}")
        object.__setattr__(self, "_index", index)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("IdMap is frozen; make a new one")

    def __reduce__(self) -> tuple[Any, ...]:
        return IdMap, (self.ids(),)

    @classmethod
    def factorize(cls, values: Iterable[Hashable]) -> tuple[IdMap, npt.NDArray[np.int32]]:
        """Return the map of the distinct `values`, sorted if they have an order, and the code of each."""
        # Hash all values, then check, cast and sort the distinct ones: sorting every row costs several times more.
        index = _plain_index(values)
        if index.dtype == object and pd.api.types.infer_dtype(index, skipna=True).startswith("mixed"):
            _refuse_mixture(index[index.notna()])  # before hashing, which treats 1, 1.0 and True as equal
        try:
            codes, distinct = pd.factorize(index, use_na_sentinel=False)
        except TypeError as error:
            raise DataError(f"ids must be hashable: {error}") from None
        index = _to_index(distinct)
        try:
            order = np.argsort(index.to_numpy(), kind="stable")
        except TypeError:  # hashable, but without an order: keep the order of first appearance
            return cls(index), codes.astype(np.int32)
        place = np.empty(len(order), dtype=np.int32)
        place[order] = np.arange(len(order), dtype=np.int32)
        return cls(index[order]), place[codes]

    def __len__(self) -> int:
        return len(self._index)

    def __iter__(self) -> Iterator[Hashable]:
        return iter(self._index.tolist())  # not of the array: numpy would turn datetimes into integers

    def __contains__(self, value: object) -> bool:
        return bool(self._lookup([value])[0] >= 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdMap) and self._index.equals(other._index)

    def __hash__(self) -> int:
        return hash((len(self), *self._index[:8].tolist()))

    def __repr__(self) -> str:
        head = ", ".join(map(repr, self._index[:3].tolist()))
        return f"IdMap({len(self):,} ids of kind {self.kind}: {head}{', ...' if len(self) > 3 else ''})"

    @property
    def kind(self) -> Literal["int", "str", "other"]:
        """Whether the external ids are integers, strings, or something else."""
        if pd.api.types.is_integer_dtype(self._index.dtype):
            return "int"
        return "str" if len(self) and isinstance(self._index[0], str) else "other"

    def ids(self, codes: npt.ArrayLike | None = None) -> npt.NDArray[Any]:
        """Return the external ids of `codes` (all of them by default).

        Raises:
            DataError: codes are not integers, such as a mask of booleans.
            OutOfRangeError: a code lies outside `0..n-1`.
        """
        values: npt.NDArray[Any] = self._index.to_numpy()
        if codes is None:
            return values.copy()
        given = np.asarray(codes)
        if given.size and given.dtype.kind not in "iu":
            raise DataError(f"codes must be integers, got {given.dtype}; turn a mask into codes with np.flatnonzero")
        wanted = given.astype(np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise OutOfRangeError(f"codes must lie in 0..{len(self) - 1}, got {wanted.min()}..{wanted.max()}")
        return values[wanted]

    def codes(self, ids: Iterable[Hashable], on_unknown: OnUnknown = "raise") -> npt.NDArray[np.int32]:
        """Return the codes of external `ids`.

        Args:
            on_unknown: `raise` an error, `drop` the unknown ones, or `mark` them with -1.

        Raises:
            UnknownIdError: an id is unknown and `on_unknown` is `raise`.
            DataError: a single id instead of a collection of ids, a table of them, or an id that cannot be hashed.
        """
        if on_unknown not in ("raise", "drop", "mark"):
            raise DataError(f"on_unknown must be 'raise', 'drop' or 'mark', got {on_unknown!r}")
        if isinstance(ids, (str, bytes)) or not np.iterable(ids):
            raise DataError(f"codes takes a collection of ids, got the single {ids!r}; pass [{ids!r}]")
        asked = ids if isinstance(ids, (np.ndarray, pd.Index, pd.Series)) else list(ids)
        if isinstance(asked, np.ndarray) and asked.ndim > 1:
            raise DataError(f"codes takes a flat collection of ids, got an array of shape {asked.shape}")
        codes = self._lookup(asked)
        missing = np.flatnonzero(codes < 0)
        if on_unknown == "drop":
            return codes[codes >= 0]
        if on_unknown == "raise" and len(missing):
            values = asked if isinstance(asked, list) else asked.tolist()
            examples = [values[place] for place in missing[:3]]
            hint = {
                ("int", True): "; the known ids are integers and these are strings",
                ("str", False): "; the known ids are strings and these are not",
            }.get((self.kind, isinstance(examples[0], str)), "")
            raise UnknownIdError(
                f"{len(missing)} of {len(codes)} ids are unknown, for instance {examples}{hint}; "
                "pass on_unknown='drop' to leave them out"
            )
        return codes

    def from_text(self, text: str) -> Hashable:
        """Return text as an id of this map: an integer if the ids are integers and the text is one, else the text."""
        return int(text) if self.kind == "int" and re.fullmatch(r"\s*[+-]?[0-9]+\s*", text) else text

    def parse(self, text: str) -> Hashable:
        """Return the external id that a person typed, an integer if the ids are integers; UnknownIdError without it."""
        value = self.from_text(text)
        if self.kind == "int" and isinstance(value, str):
            raise UnknownIdError(f"ids are integers here, got {text!r}")
        if value not in self:
            raise UnknownIdError(f"unknown id {value!r}; known ids look like {self._index[:3].tolist()}")
        return value

    def take(self, codes: npt.ArrayLike) -> IdMap:
        """Return the map of a subset, renumbered in the order of `codes`."""
        return IdMap(self.ids(codes))

    def _lookup(self, values: Any) -> npt.NDArray[np.int32]:
        try:
            return self._index.get_indexer(_plain_index(values)).astype(np.int32)
        except TypeError as error:
            raise DataError(f"ids must be hashable: {error}") from None


def _plain_index(values: Any) -> pd.Index[Any]:
    if isinstance(values, pd.Series):
        values = values.array
    if isinstance(values, (pd.Index, pd.api.extensions.ExtensionArray, np.ndarray)):
        index = pd.Index(values, tupleize_cols=False)
    else:
        # Through an object array: pandas would convert [1, "a"] or [1, None] otherwise.
        items = list(values)
        index = pd.Index(np.fromiter(items, dtype=object, count=len(items)), dtype=object, tupleize_cols=False)
    if isinstance(index.dtype, pd.CategoricalDtype):
        index = pd.Index(index.to_numpy(), tupleize_cols=False)
    if index.dtype == object and pd.api.types.infer_dtype(index, skipna=False) == "integer":
        with suppress(OverflowError):  # beyond 64 bits they stay objects: unknown to a lookup, refused by a map
            return pd.Index(index.to_numpy().astype(np.int64))
    return index


def _to_index(values: Any) -> pd.Index[Any]:
    """Return a checked index of one id type."""
    index = _plain_index(values)
    if index.hasnans:
        raise DataError(
            "ids must not be missing, got None or NaN; drop those rows first, "
            "e.g. frame.dropna(subset=['user_id', 'item_id'])"
        )
    if pd.api.types.is_float_dtype(index.dtype):
        raise DataError(
            f"ids must be integers, strings or other hashables of one type, got {index.dtype}; "
            "a column that once held missing values often becomes float: cast it with .astype('int64')"
        )
    is_integer = pd.api.types.is_integer_dtype(index.dtype)
    if (is_integer and len(index) and int(index.max()) > np.iinfo(np.int64).max) or (
        index.dtype == object and pd.api.types.infer_dtype(index, skipna=False) == "integer"
    ):
        raise DataError("integer ids must lie within signed 64 bits; cast the column, e.g. .astype(str)")
    if is_integer:
        return pd.Index(index.to_numpy(dtype=np.int64))
    if isinstance(index.dtype, (pd.StringDtype, pd.ArrowDtype)):
        index = pd.Index(index.to_numpy(dtype=object), dtype=object)
    if index.dtype == object:
        try:
            set(map(hash, index))
        except TypeError as error:
            raise DataError(f"ids must be hashable: {error}") from None
        if _refuse_mixture(index) == ["float"]:
            raise DataError("ids must be integers, strings or other hashables of one type, got float")
    return index


def _refuse_mixture(index: pd.Index[Any]) -> list[str]:
    """Return the names of the types of ids; refuse more than one."""
    kinds = sorted({type(value).__name__ for value in index})
    if len(kinds) > 1:
        raise DataError(f"ids must be of one type, got a mix of {', '.join(kinds)}; cast the column, e.g. .astype(str)")
    return kinds

"""External ids: a frozen map `external id <-> 0..n-1`, the only code that translates between them."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import suppress
from datetime import date, datetime
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.errors import DataError, OutOfRangeError, UnknownIdError

OnUnknown = Literal["raise", "drop", "mark"]
"""What a lookup does with an unknown id: raise an error, leave it out, or give it the code -1."""

PLAIN_INTEGER: Final = "(0|-?[1-9][0-9]{0,18})"
"""Pattern of text that `str` gives of an integer of 64 bits: such text and the integer mean the same."""


class IdMap:
    """Frozen map between external ids and `0..n-1`.

    In memory, ids may be integers, strings, or any hashable of one type, such as dates, UUIDs or tuples. Parquet files
    take ids that can be read back unchanged, and a registered model takes integers and strings.

    Lookups find an id that means the same: the text "10" is the integer 10 and the integer 10 is the text "10", but
    neither "010" nor "1e1" is, and True is not 1.

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
        array = getattr(values, "array", values)
        if isinstance(array, pd.Categorical) and (array.codes >= 0).all():  # hashed already
            codes, used = pd.factorize(array.codes)
            return cls._sorted(_plain_index(array.categories[used]), codes)
        index = _plain_index(values)
        if index.dtype == object and pd.api.types.infer_dtype(index, skipna=True).startswith("mixed"):
            _refuse_mixture(index[index.notna()])  # before hashing, which treats 1, 1.0 and True as equal
        try:
            codes, distinct = pd.factorize(index, use_na_sentinel=False)
        except TypeError as error:
            raise DataError(f"ids must be hashable: {error}") from None
        return cls._sorted(distinct, codes)

    @classmethod
    def _sorted(cls, distinct: Any, codes: npt.NDArray[Any]) -> tuple[IdMap, npt.NDArray[np.int32]]:
        """Return the map of distinct ids, sorted if they have an order, and the codes in it."""
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
            OutOfRangeError: a code lies outside `0..n-1`, such as the -1 of an empty slot in a list.
        """
        values: npt.NDArray[Any] = self._index.to_numpy()
        if codes is None:
            return values.copy()
        given = np.asarray(codes)
        if given.size and given.dtype.kind not in "iu":
            raise DataError(f"codes must be integers, got {given.dtype}; turn a mask into codes with np.flatnonzero")
        outside = given[(given < 0) | (given >= len(self))] if given.size else given
        if outside.size:
            hint = "; -1 marks an empty slot of a list: keep ids[ids >= 0]" if (outside == -1).any() else ""
            raise OutOfRangeError(
                f"{outside.size} codes are not among the {len(self)} of this map, such as "
                f"{outside.flat[0]}; codes must lie in 0..{len(self) - 1}{hint}"
            )
        return values[given.astype(np.int64)]

    def codes(self, ids: Iterable[Hashable], on_unknown: OnUnknown = "raise") -> npt.NDArray[np.int32]:
        """Return the codes of external `ids`, or of those that mean the same.

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
            raise UnknownIdError(
                f"{len(missing)} of {len(codes)} ids are unknown, for instance {examples}{self._hint(examples[0])}; "
                "pass on_unknown='drop' to leave them out"
            )
        return codes

    def codes_of(self, other: IdMap, what: str) -> npt.NDArray[np.int32]:
        """Return the code here of each id of another map, -1 for ids that are unknown here.

        Args:
            what: `user` or `item`, for the message.

        Raises:
            DataError: ids of the two types cannot mean the same.
        """
        types = self._type(), other._type()
        if len(self) and len(other) and types[0] != types[1] and not {*types} <= {"int", "str"}:
            raise DataError(
                f"{what} ids of type {types[1]}, such as {next(iter(other))!r}, cannot mean the same as {what} ids of "
                f"type {types[0]}, such as {next(iter(self))!r}; give both tables ids of one type"
            )
        return self._lookup(other._index)

    def parse(self, text: str) -> Hashable:
        """Return the external id that a person typed; UnknownIdError without it."""
        code = int(self._lookup([text])[0])
        if code < 0:
            shown = text if len(text) <= 60 else f"{text[:57]}..."
            raise UnknownIdError(f"unknown id {shown!r}; known ids look like {self._index[:3].tolist()}")
        found: Hashable = self._index[[code]].tolist()[0]
        return found

    def take(self, codes: npt.ArrayLike) -> IdMap:
        """Return the map of a subset, renumbered in the order of `codes`."""
        return IdMap(self.ids(codes))

    def _type(self) -> str:
        """Return the name of the type of the ids."""
        return self.kind if self.kind != "other" else type(next(iter(self), None)).__name__

    def _hint(self, unknown: Hashable) -> str:
        if self.kind == "int" and isinstance(unknown, str):
            return "; the known ids are integers, which text stands for where it is written plainly, as '7'"
        if self.kind == "str" and not isinstance(unknown, (str, int, np.integer)):
            return "; the known ids are strings and these are not"
        return ""

    def _lookup(self, values: Any) -> npt.NDArray[np.int32]:
        index = _plain_index(values)
        codes = np.full(len(index), -1, dtype=np.int32)
        try:
            if self._holds_type_of(index):
                codes[:] = self._index.get_indexer(index)
                return codes
            # One by one: pandas would find 1 for True, and would not find it for "1".
            meant = list(map(self._meaning(), index.tolist()))
            places = [place for place, value in enumerate(meant) if value is not None]
            codes[places] = self._index.get_indexer(_plain_index([meant[place] for place in places]))
            set(map(hash, index[codes < 0]))  # what cannot be an id at all is refused
        except TypeError as error:
            raise DataError(f"ids must be hashable: {error}") from None
        return codes

    def _meaning(self) -> Callable[[Any], Any]:
        """Return a function that gives an id as one of the type of these ids, None where it cannot mean one of them."""
        if self.kind == "other":
            own = type(next(iter(self), None))
            return partial(_as_other, own=datetime if issubclass(own, datetime) else own)
        return _as_integer if self.kind == "int" else _as_text

    def _holds_type_of(self, index: pd.Index[Any]) -> bool:
        if self.kind == "int":
            return pd.api.types.is_integer_dtype(index.dtype)
        if self.kind == "str":
            return pd.api.types.infer_dtype(index, skipna=False) == "string"
        return bool(index.dtype == self._index.dtype) and index.dtype != object


def _as_integer(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(PLAIN_INTEGER, value) else None
    if isinstance(value, (float, np.floating)):
        return int(value) if float(value).is_integer() else None
    return int(value) if _is_integer(value) else None


def _as_text(value: Any) -> str | None:
    return value if isinstance(value, str) else str(int(value)) if _is_integer(value) else None


def _as_other(value: Any, own: type) -> Any:
    # Python has True equal 1, and pandas reads text and days as datetimes.
    return None if isinstance(value, (bool, np.bool_, str, date)) and not isinstance(value, own) else value


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


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
        raise DataError("ids must not be missing, got None or NaN; drop the rows without one first")
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

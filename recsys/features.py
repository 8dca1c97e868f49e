"""Features of items: columns of a table as a sparse matrix, by a recipe that is learned once and then kept.

What a recipe has learned (terms, their weights, knots, scales) is stored with the model that uses it, so that an item
that comes tomorrow is encoded as those of today were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp
from pydantic import TypeAdapter, ValidationError

from recsys.columns import ITEM, TITLE
from recsys.errors import ConfigError, DataError, did_you_mean
from recsys.frames import LISTS, as_table, column_of, is_missing
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.metrics.lists import squared_lengths
from recsys.params import check_count

Kind = Literal["category", "tags", "text", "number", "vector"]
"""`category`: one value an item; `tags`: a list of values; `text`: words; `number`; `vector`: ready-made numbers."""
KNOTS: Final = 10
"""Quantiles between which a number is interpolated."""
_WORDS: Final = 2.5
"""Mean number of words from which text is words and not a category."""


What = Literal["items", "users"]
"""Whose features they are."""


@dataclass(frozen=True)
class Encoding:
    """How one column becomes columns of numbers; what is missing becomes a row of zeros.

    A category, a tag or a word is one column, weighted by ln(n / items that have it); words by 1 + ln(count), times
    that. A number lies between two of its quantiles and is shared out to both by its distance (hat functions), so that
    near numbers have near rows. A vector is divided by its length. Each block is then divided by its mean length of row
    in the table that was learned from, so that no column counts more because it has more columns.
    """

    column: str
    kind: Kind
    terms: tuple[str, ...] = ()
    """Of `category`, `tags` and `text`, sorted; others are left out."""
    weights: tuple[float, ...] = ()
    """ln(n / items with the term), one per term."""
    knots: tuple[float, ...] = ()
    """Of `number`, ascending."""
    width: int = 0
    """Of `vector`."""
    scale: float = 1.0
    """Mean length of the rows that are not empty, before division."""

    @classmethod
    def learned(cls, column: str, kind: Kind, values: pd.Series[Any], min_count: int) -> Encoding:
        """Return the encoding that a column of a table gives."""
        if kind == "number":
            found = _numbers(column, values)
            found = found[np.isfinite(found)]
            knots = np.unique(np.quantile(found, np.linspace(0, 1, KNOTS))) if len(found) else found
            whole = cls(column, kind, knots=tuple(knots.tolist()))
        elif kind == "vector":
            lengths = {len(value) for value in values if not is_missing(value)}
            if len(lengths) != 1:
                raise DataError(f"vectors in column {column!r} must have one length, got {sorted(lengths)}")
            whole = cls(column, kind, width=lengths.pop())
        else:
            rows, terms = _terms(kind, values)
            pairs = pd.DataFrame({"row": rows, "term": terms}).drop_duplicates()
            counts = pairs["term"].value_counts()
            kept = counts[counts >= min_count].sort_index()
            weights = np.log(max(2, len(values)) / kept.to_numpy(dtype=np.float64))
            # A term that every item has would weigh nothing, also where it is the only one.
            weights = np.maximum(weights, np.log(2) / 2)
            whole = cls(column, kind, terms=tuple(kept.index.tolist()), weights=tuple(weights.tolist()))
        lengths_of = np.sqrt(squared_lengths(whole.encode(values)))
        mean = float(lengths_of[lengths_of > 0].mean()) if (lengths_of > 0).any() else 1.0
        return cls(whole.column, kind, whole.terms, whole.weights, whole.knots, whole.width, mean)

    def __len__(self) -> int:
        return {"number": len(self.knots), "vector": self.width}.get(self.kind, len(self.terms))

    def encode(self, values: pd.Series[Any]) -> sp.csr_matrix:
        """Return a row per value, (len(values), len(self)) float32."""
        shape = (len(values), len(self))
        if self.kind == "number":
            numbers = _numbers(self.column, values)
            rows = np.flatnonzero(np.isfinite(numbers))
            place = np.interp(numbers[rows], self.knots, np.arange(len(self.knots))) if len(self.knots) else rows[:0]
            left = np.floor(place).astype(np.int64)
            right = np.minimum(left + 1, max(0, len(self.knots) - 1))
            share = place - left
            data, at = np.concatenate([1 - share, share]), (np.tile(rows, 2), np.concatenate([left, right]))
        elif self.kind == "vector":
            rows = np.flatnonzero([not is_missing(value) for value in values])
            if wrong := sum(len(values.iloc[row]) != self.width for row in rows):
                raise DataError(f"{wrong} vectors in column {self.column!r} do not have {self.width} numbers")
            dense = np.array([values.iloc[row] for row in rows], dtype=np.float64).reshape(len(rows), self.width)
            if not np.isfinite(dense).all():
                raise DataError(f"vectors in column {self.column!r} hold values that are NaN or infinite")
            dense /= np.maximum(np.linalg.norm(dense, axis=1, keepdims=True), 1e-12)
            data, at = dense.ravel(), (np.repeat(rows, self.width), np.tile(np.arange(self.width), len(rows)))
        else:
            rows, terms = _terms(self.kind, values)
            code = pd.Index(self.terms, dtype=object).get_indexer(pd.Index(terms, dtype=object))
            known = code >= 0
            at, data = (rows[known], code[known]), np.ones(int(known.sum()))
        matrix = sp.csr_matrix((data, at), shape=shape, dtype=np.float32)
        matrix.sum_duplicates()
        if self.terms:
            amount = 1.0 + np.log(matrix.data)  # of tags and categories there is one each
            matrix.data = (amount * np.asarray(self.weights)[matrix.indices]).astype(np.float32)
        matrix.data /= np.float32(self.scale)
        matrix.eliminate_zeros()
        return matrix


@dataclass(frozen=True)
class Recipe:
    """How a table of items becomes a matrix: an encoding per column, and the order of its columns."""

    encodings: tuple[Encoding, ...]

    @classmethod
    def learned(
        cls,
        table: pd.DataFrame,
        columns: Mapping[str, Kind] | None = None,
        min_count: int = 2,
        what: What = "items",
    ) -> Self:
        """Return the recipe that a table gives.

        Args:
            what: whose table it is, for messages.
            columns: the columns to use and their kinds; None: all but the id and the title, with kinds recognized.
            min_count: items that a category, tag or word must have to be kept; one of a single item says nothing about
                another.

        Raises:
            ConfigError: a column that is not there, or another kind.
            DataError: a column does not hold what its kind says, or nothing is left of all of them.
        """
        check_count("min_count", min_count)
        if columns is None:
            columns = {str(name): recognized(table[name]) for name in table if name not in (ITEM, TITLE)}
        for name, kind in columns.items():
            if name not in table:
                raise ConfigError(
                    f"the table of {what} has no column {name!r}; it has {', '.join(map(str, table))}"
                    + did_you_mean(name, map(str, table))
                )
            if kind not in get_args(Kind):
                raise ConfigError(f"{name}: a column is one of {', '.join(get_args(Kind))}, got {kind!r}")
        made = [Encoding.learned(name, kind, column_of(table, name), min_count) for name, kind in columns.items()]
        if not sum(map(len, made)):
            raise DataError(
                f"no feature is left of the columns {', '.join(columns) or '(none)'}: no value is that of at least "
                f"{min_count} {what}; name other columns, or lower min_count"
            )
        return cls(tuple(made))

    def __len__(self) -> int:
        return sum(map(len, self.encodings))

    def encode(self, table: pd.DataFrame, what: What = "items") -> sp.csr_matrix:
        """Return a row per row of a table, (n, len(self)) float32; DataError if a column of the recipe is not there."""
        if absent := [own.column for own in self.encodings if own.column not in table]:
            raise DataError(
                f"the table of {what} has no column {', '.join(absent)}, which the model reads as features; "
                f"it has {', '.join(map(str, table))}"
            )
        blocks = [own.encode(column_of(table, own.column)) for own in self.encodings]
        return sp.csr_matrix(sp.hstack(blocks), dtype=np.float32)

    def state(self) -> list[dict[str, Any]]:
        """Return the recipe as JSON values."""
        return [asdict(own) for own in self.encodings]

    @classmethod
    def from_state(cls, state: Any) -> Self:
        """Return the recipe that `state` gave; DataError for anything else."""
        try:
            made = _ENCODINGS.validate_python(state)
        except ValidationError as error:
            raise DataError(f"the recipe of its features is none: {error.errors()[0]['msg']}") from None
        if any(len(own.terms) != len(own.weights) for own in made):
            raise DataError("the recipe of its features must have a weight per term")
        return cls(made)


@dataclass(frozen=True, eq=False)
class Features:
    """Items and what is known of them: one row of a sparse matrix each."""

    ids: IdMap
    """External ids of the rows."""
    matrix: sp.csr_matrix
    """(len(ids), len(recipe)) float32; a row is empty where nothing is known of an item."""
    recipe: Recipe

    @classmethod
    def from_frame(
        cls,
        table: Any,
        *,
        item: str = ITEM,
        columns: Mapping[str, Kind] | None = None,
        min_count: int = 2,
        what: What = "items",
    ) -> Self:
        """Return the features of a table with a row per item, or per user.

        Args:
            table: a pandas frame, or anything with `to_pandas()` (polars, Arrow).
            item: column of the ids.
            what: whose they are, for messages.
            columns, min_count: as `Recipe.learned`.

        Raises:
            DataError: a column is missing, an item occurs twice, or nothing is left.
            ConfigError: a column that is not there, or another kind.
        """
        frame = as_table(table, [item])
        ids = IdMap(column_of(frame, item))
        rest = frame.drop(columns=[item])
        recipe = Recipe.learned(rest, columns, min_count, what)
        return cls(ids, recipe.encode(rest, what), recipe)

    @classmethod
    def of(cls, interactions: Interactions, columns: Mapping[str, Kind] | None = None, min_count: int = 2) -> Self:
        """Return the features of items of interactions, from their `item_columns` and, if it is named, their `title`.

        Raises:
            DataError: they have no columns of items, or nothing is left of them.
            ConfigError: a column that is not there, or another kind.
        """
        table = described_items(interactions).drop(columns=[ITEM])
        if table.shape[1] - (TITLE in table) <= 0 and columns is None:
            raise DataError("the interactions say nothing about their items; give a table of items with them, items=")
        recipe = Recipe.learned(table, columns, min_count)
        return cls(interactions.items, recipe.encode(table), recipe)

    def more(self, table: Any, item: str = ITEM, what: What = "items") -> Features:
        """Return features of other items or users, encoded by the same recipe; DataError as `from_frame`."""
        frame = as_table(table, [item])
        rows = self.recipe.encode(frame.drop(columns=[item]), what)
        return Features(IdMap(column_of(frame, item)), rows, self.recipe)

    def rows(self, ids: IdMap, what: str = "item") -> sp.csr_matrix:
        """Return the rows of these items or users, (len(ids), len(recipe)); empty ones for those that are not here."""
        return taken(self.matrix, self.ids.codes_of(ids, what).astype(np.int64))

    def __repr__(self) -> str:
        described = int(np.count_nonzero(np.diff(self.matrix.indptr)))
        kinds = ", ".join(f"{own.column}: {len(own):,} ({own.kind})" for own in self.recipe.encodings)
        return f"Features({len(self.ids):,} items, {described:,} of them with features; {kinds})"


def described_items(interactions: Interactions) -> pd.DataFrame:
    """Return what interactions say of their items: their ids, their `title` if they have titles, and their columns."""
    columns = {
        name: pd.Series(list(values), dtype=object) if values.dtype == object else pd.Series(values)
        for name, values in interactions.item_columns.items()
    }
    titles = {} if interactions.titles is None else {TITLE: pd.Series(interactions.titles, dtype=object)}
    return pd.DataFrame({**titles, **columns, ITEM: interactions.items.ids()})


def taken(matrix: sp.csr_matrix, rows: npt.NDArray[np.int64]) -> sp.csr_matrix:
    """Return rows of a matrix in an order; an empty one where the number is -1."""
    there = np.flatnonzero(rows >= 0)
    pick = sp.csr_matrix((np.ones(len(there), np.float32), (there, rows[there])), shape=(len(rows), matrix.shape[0]))
    found = sp.csr_matrix(pick @ matrix, dtype=np.float32)
    found.sort_indices()
    return found


def recognized(values: pd.Series[Any]) -> Kind:
    """Return the kind that a column seems to be of."""
    if pd.api.types.is_bool_dtype(values) or isinstance(values.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
        return "number"
    known = [value for value in values if not is_missing(value)]
    if known and all(isinstance(value, LISTS) for value in known):
        inner = [element for value in known[:1000] for element in value]
        return "vector" if inner and all(_is_number(element) for element in inner) else "tags"
    if known and all(_is_number(value) for value in known):
        return "number"
    text = [value for value in known if isinstance(value, str)]
    if sum("|" in value for value in text) > len(text) / 10:
        return "tags"
    words = sum(len(value.split()) for value in text) / max(1, len(text))
    return "text" if text and words > _WORDS and len(set(text)) > len(text) / 2 else "category"


_ENCODINGS = TypeAdapter(tuple[Encoding, ...])


def _terms(kind: Kind, values: pd.Series[Any]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.object_]]:
    """Return the terms of a column as text, with the numbers of their rows; those of tags and categories once a row."""
    if kind == "text":
        from sklearn.feature_extraction.text import CountVectorizer

        words = CountVectorizer().build_analyzer()
        lists: Iterable[Any] = [() if is_missing(value) else words(str(value)) for value in values]
    elif kind == "tags":
        lists = [() if is_missing(value) else sorted(_tags(value)) for value in values]
    else:
        lists = [() if is_missing(value) else (value,) for value in values]
    found = pd.Series(list(lists), dtype=object).explode().dropna()
    return found.index.to_numpy(dtype=np.int64), np.array([str(term) for term in found], dtype=object)


def _tags(value: Any) -> set[str]:
    """Return the values of a list, or of text that has a bar between them, as MovieLens writes its genres."""
    if isinstance(value, LISTS):
        return {str(one) for one in value if not is_missing(one)}
    return {part for part in str(value).split("|") if part}


def _numbers(column: str, values: pd.Series[Any]) -> npt.NDArray[np.float64]:
    if pd.api.types.is_datetime64_any_dtype(values):
        return np.where(values.isna(), np.nan, values.astype("int64") / 1e9)
    try:
        return pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise DataError(f"column {column!r} must hold numbers: {error}; is it a category or text?") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)

"""A table made into shards: what an engine finds in it, and what is then done with its sorted rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import ITEM
from recsys.errors import ConfigError, DataError
from recsys.frames import about_items, repeated, weights_of_events
from recsys.ids import IdMap
from recsys.preparing.engine import Engine
from recsys.preparing.entries import Filter, Sorted, filtered, merge
from recsys.preparing.source import MICROSECONDS, Column, Source
from recsys.preparing.split import SPLITS, UNSPLIT, Items, Prepared, chosen, unsplit
from recsys.shards import Builder
from recsys.times import PER_SECOND, as_seconds, check_years, look_like_dates, note_unit, unit_of_numbers

_MOST_IDS: Final = 2**31 - 1
_BATCH: Final = 2**17
_LARGEST: Final = float(np.finfo(np.float32).max)


class Wanted(NamedTuple):
    """What a configuration asks for."""

    options: Mapping[str, Any]
    """Keys of `[data]` that `datasets.read` and `Interactions.from_frame` take."""
    filter: Filter
    kind: str
    """Name of the split; `UNSPLIT` for all entries in one part."""
    split: Mapping[str, Any]
    """All its options."""
    about: Mapping[str, Any]
    """Further facts of the manifest."""


def check_split(kind: str) -> None:
    """Raise a ConfigError for a split that needs the data in memory."""
    if kind not in SPLITS:
        raise ConfigError(
            f"split.kind = {kind!r} needs all entries in memory; use --engine local, or one of {', '.join(SPLITS)}"
        )


def prepare(engine: Engine, source: Source, wanted: Wanted, folder: Path, scratch: Path) -> dict[str, Any]:
    """Fill `folder` with the shards of a table; return the summary of the data that were split.

    Raises:
        DataError: as `Interactions.from_frame`, `Interactions.filter` and the splitter.
    """
    read = _Read(engine, source, wanted.options, scratch)
    read.begin()
    users, items = read.ids("u", "users"), read.ids("i", "items")
    duplicates = wanted.options.get("duplicates", "error")
    shape = users.count, items.count
    merged, repeats = merge(scratch, read.rows(ordered=duplicates in ("last", "sum")), duplicates, shape, read.times)
    if repeats is not None and duplicates == "error":
        pair = tuple(ids.at(code) for ids, code in zip((users, items), repeats.first, strict=True))
        raise repeated(repeats.count, pair)
    entries, kept_users, kept_items = filtered(merged, wanted.filter)
    if entries is not merged:
        merged.remove()
    everything = _about(source, IdMap(np.concatenate([_numpy(part) for part in items.parts()])), wanted.options)
    of_entries = everything.take(np.flatnonzero(kept_items))
    with Builder(folder) as builder:
        data = Prepared(entries, lambda: chosen(users.parts(), kept_users), of_entries, builder)
        summary = data.summary()
        write = unsplit if wanted.kind == UNSPLIT else SPLITS[wanted.kind]
        write(data, {**wanted.about, "data": summary}, wanted.split)
    return summary


def _numpy(ids: pa.Array) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = ids.to_numpy(zero_copy_only=False)
    return found


def _about(source: Source, ids: IdMap, options: Mapping[str, Any]) -> Items:
    """Return the items with what a table says of them, as `Interactions.from_frame` does."""
    if source.about_items is None:
        return Items(ids, None, {})
    try:
        return Items(ids, *about_items(source.about_items, options.get("item", ITEM), ids))
    except DataError as error:
        raise DataError(f"the table of items: {error}") from None


@dataclass(frozen=True)
class _Ids:
    """Distinct ids in ascending order, in a parquet file with their codes."""

    path: Path
    count: int

    def parts(self) -> Iterator[pa.Array]:
        with pq.ParquetFile(self.path) as file:
            for batch in file.iter_batches(_BATCH, columns=["id"]):
                yield batch.column(0)

    def at(self, code: int) -> Any:
        for part in self.parts():
            if code < len(part):
                return part[code].as_py()
            code -= len(part)
        raise IndexError(code)


class _Read:
    """The rows of a table with their columns as they are meant, by SQL."""

    def __init__(self, engine: Engine, source: Source, options: Mapping[str, Any], scratch: Path) -> None:
        self.engine, self.source, self.options, self.scratch = engine, source, options, scratch
        self.per_second = 1
        self.times: np.dtype[Any] | None = None
        self._rows = ""

    def begin(self) -> None:
        """Look at all values once: refuse what cannot be read, and find the unit and the type of the times."""
        engine, source = self.engine, self.source
        duplicates = self.options.get("duplicates", "error")
        engine.table("source", source.files, number="recsys_row" if duplicates in ("last", "sum") else None)
        columns = {"u": self._sql(source.user), "i": self._sql(source.item), "v": "CAST(1 AS FLOAT)"}
        if source.value is not None:
            columns["v"] = self._sql(source.value)
        if source.time is not None:
            columns["t"] = self._sql(source.time)
        if duplicates in ("last", "sum"):
            columns["r"] = "recsys_row"
        rows = "source"
        if self.options.get("weights") is not None:
            self._weigh(columns["v"])
            columns["v"] = "weights.recsys_weight"
            rows = f"source JOIN weights ON {self._sql(source.value)} = weights.recsys_event"  # type: ignore[arg-type]
        self._check_complete(columns)
        self._rows = f"SELECT {', '.join(f'{sql} AS {name}' for name, sql in columns.items())} FROM {rows}"
        if self.options.get("weights") is not None:
            self._rows += " WHERE weights.recsys_weight <> 0"
        elif source.value is not None:
            self._check_values(columns["v"])
        if source.time is not None:
            self._check_times(source.time)

    def ids(self, column: str, name: str) -> _Ids:
        """Write the distinct ids of a column, in ascending order; the engine knows them and their codes as a table."""
        path, count = self.scratch / f"{name}.parquet", 0
        writer: pq.ParquetWriter | None = None
        with self.engine.batches(f"SELECT DISTINCT {column} AS id FROM ({self._rows}) AS w ORDER BY id") as batches:
            try:
                for batch in batches:
                    ids = batch.column(0)
                    ids = ids.cast(pa.int64() if pa.types.is_integer(ids.type) else pa.string())
                    codes = pa.array(np.arange(count, count + len(ids)), pa.int64())
                    part = pa.table({"id": ids, "code": codes})
                    writer = writer or pq.ParquetWriter(path, part.schema, compression="snappy")
                    writer.write_table(part)
                    count += len(ids)
            finally:
                if writer is not None:
                    writer.close()
        if not count:
            raise DataError("the frame has no rows; expected at least one interaction")
        if count > _MOST_IDS:
            raise DataError(f"there are {count:,} {name}, more than {_MOST_IDS:,}")
        self.engine.table(name, [path])
        return _Ids(path, count)

    def rows(self, *, ordered: bool) -> Iterator[Sorted]:
        """Yield all rows in the order of user, item, time and, if `ordered`, place in the table."""
        names = ["v", *(["t"] if self.times is not None else []), *(["r"] if ordered else [])]
        order = [name for name in names if name != "v"]
        query = (
            f"SELECT CAST(users.code AS INT) AS uc, CAST(items.code AS INT) AS ic, {', '.join(names)} "
            f"FROM ({self._rows}) AS w JOIN users ON w.u = users.id JOIN items ON w.i = items.id "
            f"ORDER BY {', '.join(['uc', 'ic', *order])}"
        )
        with self.engine.batches(query) as batches:
            for batch in batches:
                yield self._sorted(batch)

    def _sorted(self, batch: pa.RecordBatch) -> Sorted:
        users, items = (_numpy(batch.column(place)).astype(np.int32, copy=False) for place in (0, 1))
        with np.errstate(over="ignore", under="ignore"):
            values = _numpy(batch.column(2)).astype(np.float64).astype(np.float32)
        if self.times is None:
            return Sorted(users, items, values, None)
        counts = _numpy(batch.column(3))
        if counts.dtype.kind == "i" and self.per_second == 1:
            return Sorted(users, items, values, counts)
        return Sorted(users, items, values, as_seconds(counts, self.per_second, self.times.kind == "i"))

    def _sql(self, column: Column) -> str:
        name = self.engine.column(column.name)
        if column.kind == "time":
            return self.engine.microseconds(name)
        kinds = {"int": "BIGINT", "float": "DOUBLE", "str": "STRING"}
        return f"CAST({name} AS {kinds[column.kind]})" if column.cast or column.kind != "str" else name

    def _check_complete(self, columns: Mapping[str, str]) -> None:
        """Refuse missing ids, values and times, and a table without rows."""
        given = {"u": self.source.user, "i": self.source.item, "v": self.source.value, "t": self.source.time}
        asked = {name: column for name, column in given.items() if column is not None}
        counts = [f"count({self.engine.column(column.name)})" for column in asked.values()]
        total, *there = self.engine.row(f"SELECT count(*), {', '.join(counts)} FROM source")
        if not total:
            raise DataError("the frame has no rows; expected at least one interaction")
        for column, count in zip(asked.values(), there, strict=True):
            if count < total:
                raise DataError(
                    f"{total - count:,} of {total:,} values in {column.name!r} are missing; drop those rows"
                )

    def _check_values(self, sql: str) -> None:
        low, high = self.engine.row(f"SELECT min({sql}), max({sql}) FROM source")
        # NaN is the largest number to both engines.
        if not (float(low) >= -_LARGEST and float(high) <= _LARGEST):
            name = self.source.value.name if self.source.value else ""
            raise DataError(
                f"values in {name!r} are NaN, infinite or beyond float32; drop those rows, or pass rating=None to "
                "count every row as 1"
            )

    def _weigh(self, sql: str) -> None:
        """Make the weight of each event known to the engine."""
        column = self.source.value
        if column is None:
            raise DataError("weights need a column of events; name it with rating=")
        with self.engine.batches(f"SELECT {sql} AS event, count(*) AS n FROM source GROUP BY 1 ORDER BY 1") as batches:
            table = pa.Table.from_batches(list(batches))
        counts = dict(zip(table["event"].to_pylist(), table["n"].to_pylist(), strict=True))
        if None in counts:
            raise DataError(f"{counts[None]:,} events in {column.name!r} are missing; drop those rows")
        found = weights_of_events(counts, column.name, self.options["weights"])
        if not found.any():
            raise DataError(f"every row of {column.name!r} has the weight 0: nothing is left")
        weights = pa.table({"recsys_event": table["event"], "recsys_weight": pa.array(found, pa.float32())})
        path = self.scratch / "weights.parquet"
        pq.write_table(weights, path)
        self.engine.table("weights", [path])

    def _check_times(self, column: Column) -> None:
        """Find the unit of the times and whether all are whole seconds."""
        given = self.options.get("time_unit", "auto")
        within = f"FROM ({self._rows}) AS w"
        low, high, least = self.engine.row(f"SELECT min(t), max(t), min(CASE WHEN t <> 0 THEN abs(t) END) {within}")
        if column.kind == "time":
            self.per_second = MICROSECONDS
        else:
            if not (-np.inf < float(low) and float(high) < np.inf):
                raise DataError(f"values in {column.name!r} are NaN or infinite; expected seconds since 1970")
            unit = unit_of_numbers((low, high), float(low if low > 0 else least or 0), given, column.name)
            if given == "auto" and self._may_be_dates(low, within):
                raise look_like_dates(column.name, high)
            self.per_second = PER_SECOND[unit]
        ends = low / self.per_second, high / self.per_second
        check_years(ends, column.name)
        if column.kind != "time" and given == "auto":
            note_unit(unit, (low // self.per_second, high // self.per_second), column.name)
        (parts,) = self.engine.row(f"SELECT count(CASE WHEN t % {self.per_second} <> 0 THEN 1 END) {within}")
        self.times = np.dtype(np.float64 if parts else np.int64)

    def _may_be_dates(self, low: float, within: str) -> bool:
        """Return whether nine in ten numbers but 0 begin like days of 1900 to 2100; `datasets.read` looks closer."""
        if low < 0:
            return False
        days = (f"count(CASE WHEN floor(t / {clock}) BETWEEN 19000101 AND 21001231 THEN 1 END)" for clock in _CLOCKS)
        total, parts, *plausible = self.engine.row(
            f"SELECT count(CASE WHEN t <> 0 THEN 1 END), count(CASE WHEN t <> floor(t) THEN 1 END), {', '.join(days)} "
            + within
        )
        return not parts and any(10 * count >= 9 * total > 0 for count in plausible)


_CLOCKS: Final = ("1", "1e4", "1e6")

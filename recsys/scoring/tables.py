"""Tables as Spark reads them, with the ids and values that `datasets.read` gives; what would differ is refused."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.columns import ITEM, RATING, USER
from recsys.datasets.layouts import parts_of
from recsys.datasets.text import IdKind
from recsys.errors import ConfigError, DataError
from recsys.files import sha256_of_json
from recsys.frames import note_like
from recsys.ids import PLAIN_INTEGER
from recsys.scoring.rows import Reading

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WHOLE: Final = ("tinyint", "smallint", "int", "bigint")
_REAL: Final = ("float", "double")
_NUMBER: Final = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True, kw_only=True)
class TableReading(Reading):
    """How a table of Spark becomes histories: what `Interactions.from_frame` and `[data]` call these names."""

    user: str = USER
    item: str = ITEM
    rating: str = RATING
    """Column of values. One of the default name may be absent: every interaction then counts 1."""
    ids: IdKind = "auto"
    """Ids of a csv file: integers if all are written as such, or always text."""

    def __post_init__(self) -> None:
        if self.duplicates == "last" or self.weights is not None:
            raise ConfigError(
                "Spark scores tables with duplicates='error', 'sum' or 'max', because its rows have no order, and "
                f"without weights of events; got duplicates={self.duplicates!r}, weights={self.weights!r}"
            )


def table_of(spark: SparkSession, source: DataFrame | str | Path, how: TableReading) -> DataFrame:
    """Return `user_id, item_id` and perhaps `rating`, of a DataFrame or of a path that all machines see.

    Ids are bigint or string, values double.

    Raises:
        DataError: a column is missing or of another type, or Spark would read it otherwise than `datasets.read` does.
    """
    if not isinstance(source, str | Path):
        return _canonical(source, how)
    path = Path(source).expanduser().absolute()
    if wild := re.search(r"[*?\[\]{}\\]", str(path)):
        raise DataError(f"{path} holds {wild[0]!r}, which Spark reads as a pattern; rename it")
    if path.suffix.lower() == ".csv" and path.is_file():
        return _of_csv(spark, path, how)
    files = [path]
    if path.is_dir():
        named = path / "interactions.parquet"
        files = [named] if named.exists() else parts_of(path)
    if not files or not all(file.is_file() and file.suffix.lower() in (".parquet", ".parq", ".pq") for file in files):
        raise DataError(f"{path} is no parquet file, folder of these or .csv file; Spark scores from those alone")
    _check_parts(path, files, how)
    return _canonical(spark.read.parquet(*(f"file://{file}" for file in files)), how)


def digest_of(table: DataFrame) -> str:
    """Return a digest of the rows of a table, in any order, by one pass over them.

    Raises:
        DataError: it has no rows, or an id is missing.
    """
    from pyspark.sql import functions as F

    missing = [F.sum(F.col(name).isNull().cast("long")) for name in (USER, ITEM)]
    total = F.sum(F.xxhash64(*table.columns).cast("decimal(38,0)"))
    rows, found, *absent = table.agg(F.count("*"), total, *missing).collect()[0]
    if not rows:
        raise DataError("the table has no rows; expected at least one interaction")
    for name, count in zip((USER, ITEM), absent, strict=True):
        if count:
            raise DataError(f"{count:,} of the {rows:,} ids in {name!r} must not be missing; drop those rows")
    return sha256_of_json([rows, str(found), table.dtypes])


def _canonical(frame: DataFrame, how: TableReading) -> DataFrame:
    from pyspark.sql import functions as F

    types = dict(frame.dtypes)
    wanted = {USER: how.user, ITEM: how.item}
    if how.rating != RATING or RATING in types:
        wanted[RATING] = how.rating
    else:
        note_like(RATING, frame.columns)
    columns = []
    for name, column in wanted.items():
        if column not in types:
            raise DataError(f"column {column!r} is not in the table; it has {', '.join(map(repr, frame.columns))}")
        if len(alike := [other for other in frame.columns if other.lower() == column.lower()]) > 1:
            raise DataError(f"Spark takes the columns {', '.join(map(repr, alike))} for one; rename the others")
        kind, found = types[column], F.col(_quoted(column))
        if name != RATING and kind not in (*WHOLE, "string"):
            raise DataError(f"ids in {column!r} must be integers or strings to score on Spark, got {kind}; cast them")
        if name == RATING and kind not in (*WHOLE, *_REAL):
            raise DataError(f"column {column!r} must hold numbers to score on Spark, got {kind}; cast it")
        into = "double" if name == RATING else "string" if kind == "string" else "bigint"
        columns.append(found.cast(into).alias(name))
    return frame.select(*columns)


def _quoted(column: str) -> str:
    return "`{}`".format(column.replace("`", "``"))


def _check_parts(path: Path, files: list[Path], how: TableReading) -> None:
    """Refuse parts whose columns differ, and those that folders such as `day=2026-08-01` would give."""
    if folder := next((file for file in files if "=" in str(file.relative_to(path).parent)), None):
        raise DataError(f"{folder.relative_to(path)} is in a folder of a partition; pass a DataFrame, or its folders")
    kinds: dict[tuple[Any, ...], str] = {}
    for file in files:
        try:
            schema = pq.read_schema(file)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} cannot be read: {error}") from None
        of = [(name, str(schema.field(name).type)) for name in (how.user, how.item, how.rating) if name in schema.names]
        kinds.setdefault((tuple(sorted(schema.names)), *of), file.name)
    if len(kinds) > 1:
        raise DataError(f"the parquet files {', '.join(kinds.values())} have different columns; write them alike")


def _of_csv(spark: SparkSession, path: Path, how: TableReading) -> DataFrame:
    """Return a simple csv file: UTF-8, commas, a header, and no quotes, which Spark's own reader takes otherwise."""
    from pyspark.sql import functions as F

    with path.open("rb") as file:
        first = file.readline()
    try:
        header = first.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise _not_simple(path, "its header is not UTF-8") from None
    names = next(csv.reader([header]), [])
    if (
        header.startswith("\ufeff")
        or '"' in header
        or len(set(names)) < len(names)
        or not {how.user, how.item} <= {*names}
    ):
        raise _not_simple(path, f"its first line is {header[:80]!r}")
    everything = spark.read.text(f"file://{path}")
    if everything.where(F.col("value") == header).limit(2).count() > 1:
        raise _not_simple(path, f"another line is the header {header[:80]!r} again")
    lines = everything.where((F.col("value") != header) & (F.length("value") > 0))
    fields = F.split("value", ",", -1)
    kept = [name for name in (how.user, how.item, how.rating) if name in names]
    texts = lines.select(
        (F.size(fields) != len(names)).alias("_ragged"),
        (F.col("value").contains('"') | F.col("value").contains("\ufffd")).alias("_quoted"),
        *(F.nullif(F.get(fields, F.lit(names.index(name))), F.lit("")).alias(name) for name in kept),
    )
    plain = {name: F.col(_quoted(name)).rlike(f"^{PLAIN_INTEGER}$") for name in (how.user, how.item)}
    whole = {
        name: F.coalesce(found & F.col(_quoted(name)).try_cast("bigint").isNotNull(), F.lit(False))
        for name, found in plain.items()
    }
    facts = {
        "ragged": F.max("_ragged"),
        "quoted": F.max("_quoted"),
        "missing": F.max(F.col(_quoted(how.user)).isin("\\N") | F.col(_quoted(how.item)).isin("\\N")),
        **{f"whole {name}": F.min(found) for name, found in whole.items()},
    }
    if how.rating in kept:
        facts["unnumbered"] = F.max(~F.coalesce(F.col(_quoted(how.rating)).rlike(_NUMBER), F.lit(False)))
    found = texts.agg(*(fact.alias(name) for name, fact in facts.items())).head()
    _check_csv(path, {} if found is None else found.asDict(), len(names), how)
    casts = {name: "bigint" if how.ids == "auto" and found and found[f"whole {name}"] else "string" for name in whole}
    casts |= {how.rating: "double"} if how.rating in kept else {}
    return _canonical(texts.select(*(F.col(_quoted(name)).cast(casts[name]).alias(name) for name in kept)), how)


def _check_csv(path: Path, facts: Mapping[str, Any], fields: int, how: TableReading) -> None:
    if facts.get("quoted"):
        raise _not_simple(path, "some of its lines hold quotes, or are not UTF-8")
    if facts.get("ragged"):
        raise _not_simple(path, f"some of its lines do not have the {fields} fields of the header")
    if facts.get("missing"):
        raise DataError(f"ids of {path} hold \\N, by which databases mean a missing value; drop those rows")
    if facts.get("unnumbered"):
        raise DataError(f"column {how.rating!r} of {path} must hold numbers, written plainly, in every row")


def _not_simple(path: Path, why: str) -> DataError:
    return DataError(
        f"Spark reads .csv files of UTF-8 with commas, a header and no quotes, and of {path} {why}; write it as parquet"
    )

"""Batch scoring on Spark: the rows of a user in one place, the kernel on each, and Spark's own committer."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys import errors
from recsys.claims import claimed
from recsys.columns import ITEM, RANK, RATING, SCORE, USER
from recsys.errors import BundleError, ConfigError, DataError, RecsysError, ScoringError, warn
from recsys.extras import check_installed
from recsys.matching import FEW_KNOWN
from recsys.models import Recommender, load
from recsys.params import check_count
from recsys.rules import BoundRules, Rules
from recsys.scoring.asked import bound_rules
from recsys.scoring.kernel import Counts, Kernel
from recsys.scoring.local import ScoringResult, model_checksum, version
from recsys.scoring.output import Identity, OutputFolder
from recsys.scoring.rows import SEEN, Reading
from recsys.scoring.spark_session import PURPOSE, first_line
from recsys.scoring.tables import TableReading, digest_of, table_of
from recsys.workspace import as_path

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ERROR: Final = re.compile(r"recsys\.errors\.(\w+): ([^\r\n]*)")


def score_spark(
    spark: SparkSession,
    model: Recommender | str | Path,
    histories: DataFrame | str | Path,
    output: str | Path,
    *,
    n: int = 10,
    exclude_seen: bool = True,
    seen: DataFrame | str | Path | None = None,
    reading: TableReading | None = None,
    rules: Rules | BoundRules | None = None,
    items: Any = None,
    partitions: int | None = None,
    model_uri: str | None = None,
    asked_uri: str | None = None,
    overwrite: bool = False,
) -> ScoringResult:
    """Write the `n` best items of each user, as `score` does, computed by the workers of a Spark session.

    Lists and scores are those of `score`, bit for bit where workers and the local job have processors of one kind.
    Rows are sorted by user within a part, and a user is in one part. A worker's memory holds the model, one block of
    users, and all rows of one user. Workers compute with one thread each, on CPUs; a task that is lost is repeated.

    The output appears by one rename when all is written, and only over what a scoring job has written; a complete
    output of the same job is left as it is. A job that was interrupted starts over.

    Args:
        spark: a session with a driver of its own (not Spark Connect), whose workers have this version of recsys, and
            see the folder of `output` under the same path.
        model: a fitted model, or the folder of a saved one.
        histories: rows of `user_id, item_id` and perhaps `rating`, as a DataFrame, or the path of a parquet file, of a
            folder of these, or of a simple .csv file. Ids are integers or strings.
        output: folder to write, on a file system with atomic renames.
        seen: all that these users have seen, as in `score`; its ratings are not read.
        reading: names of columns, and what to do with repeated and low-rated rows.
        rules, items: as in `score`; they are sent to the workers whole, with the pairs of `exclude_pairs`.
        partitions: into how many parts users are cut; four a core by default. It changes no list.
        model_uri, asked_uri: as in `score`.
        overwrite: write anew even if this job is complete.

    Raises:
        ConfigError: an option is out of range, or pyspark is missing.
        DataError: the table is none that Spark reads as `datasets.read` does, repeats a user and item, or the model
            knows none of its items; `seen` lacks a user.
        BundleError, NotFittedError: there is no saved model, or it is not fitted.
        ScoringError: a worker lacks recsys or has another version, Parquet cannot store the ids, another job writes the
            same output, or `output` is or holds what no scoring job has written.
    """
    check_installed(PURPOSE, "pyspark", extra="spark")
    if not hasattr(spark, "_jsc"):
        raise ConfigError(
            "score_spark needs a classic Spark session; a Spark Connect client cannot send files to workers"
        )
    reading = TableReading() if reading is None else reading
    folder = OutputFolder(as_path(output).absolute())
    folder.check_early()
    fitted = model if isinstance(model, Recommender) else load(model, device="cpu")
    kernel = Kernel(fitted, n, exclude_seen, bound_rules(fitted, histories, rules, items))
    cut = 4 * spark.sparkContext.defaultParallelism if partitions is None else check_count("partitions", partitions)
    kernel.item_ids  # noqa: B018 - refused before the work
    with _translated():
        rows, identity = _rows(spark, histories, seen, reading)
    read = {"duplicates": reading.duplicates, "min_rating": reading.min_rating, "binary": reading.binary}
    options: dict[str, Any] = {"n": kernel.n, "exclude_seen": exclude_seen, "engine": "spark"}
    options |= {} if kernel.rules is None else {"rules": kernel.rules.about()}
    identity |= {"model": model_checksum(fitted), **options, "reading": read, "recsys": version()}
    work = partial(_write, kernel, rows.repartition(cut, USER), reading)
    origin = {"model_uri": model_uri, "asked_uri": asked_uri}
    about = {"run_id": fitted.about_.get("run_id"), "model": type(fitted).__name__, **options}
    return _publish(work, folder, {**origin, **about}, identity, overwrite)


def _publish(
    work: Callable[[Path], None], folder: OutputFolder, facts: Mapping[str, Any], identity: Identity, overwrite: bool
) -> ScoringResult:
    """Put what `work` writes into a new folder in place of the output, unless that is complete."""
    with folder.locked():
        folder.check()
        manifest = None if overwrite else folder.manifest(identity)
        complete = manifest is not None
        if manifest is None:
            parts = folder.begin(identity, resume=False)
            with claimed(folder.target, folder=True) as beside, _removed(beside), _translated():
                work(beside / "lists")
                for number, (file, rows, users) in enumerate(_written(beside / "lists")):
                    name = f"part-{number:05d}.parquet"
                    parts[name] = folder.take_part(name, file, rows, users)
            users = sum(part["users"] for part in parts.values())
            folder.check()  # again: executors of a killed driver may have written on for a while
            manifest = folder.publish({**facts, "users": users}, parts, identity)
    counts = manifest["users"], manifest["rows"], len(manifest["parts"])
    return ScoringResult(folder.named, *counts, resumed_parts=0, already_complete=complete)


def _rows(
    spark: SparkSession, histories: DataFrame | str | Path, seen: DataFrame | str | Path | None, how: TableReading
) -> tuple[DataFrame, dict[str, Any]]:
    """Return the rows that the kernel takes, not yet sorted, and what tells these data from others."""
    from pyspark.sql import functions as F

    rows = table_of(spark, histories, how)
    identity = {"data": digest_of(rows), "seen": None, "users": "all"}
    if seen is None:
        return rows, identity
    others = table_of(spark, seen, how).select(USER, ITEM)
    identity["seen"] = digest_of(others)
    if dict(others.dtypes) != {name: kind for name, kind in rows.dtypes if name != RATING}:
        raise DataError(f"histories and seen must have ids of the same types, got {rows.dtypes} and {others.dtypes}")
    if RATING in rows.columns:
        others = others.withColumn(RATING, F.lit(1.0))
    known = others.join(rows.select(USER).distinct(), USER, "left_semi").select(*rows.columns)
    both = rows.withColumn(SEEN, F.lit(False)).unionByName(known.withColumn(SEEN, F.lit(True)))
    return both, identity


def _write(kernel: Kernel, rows: DataFrame, reading: TableReading, folder: Path) -> None:
    """Score rows, those of a user in one partition, into a new folder; say, or refuse, where little was known."""
    spark = rows.sparkSession
    user = dict(rows.dtypes)[USER]
    item = {"int": "bigint", "str": "string"}.get(kernel.items.kind)
    if item is None:
        raise ScoringError("Spark scores models whose item ids are integers or strings; use score for others")
    counts: Any = spark.sparkContext.accumulator(Counts(), _Adding())  # type: ignore[arg-type]
    plain = Reading(duplicates=reading.duplicates, min_rating=reading.min_rating, binary=reading.binary)
    lists_of = kernel.n, kernel.exclude_seen, kernel.rules
    work = _work(_Setup(_sent(spark, kernel.model), _modules(kernel.model), *lists_of, plain, folder.parent), counts)
    sorted_rows = rows.sortWithinPartitions(USER, ITEM)
    lists = sorted_rows.mapInArrow(work, f"{USER} {user}, {ITEM} {item}, {SCORE} float, {RANK} int")
    lists.write.option("compression", "zstd").parquet(f"file://{folder}")
    found: Counts = counts.value
    if found.entries and not found.kept:
        raise DataError(
            f"none of the {found.entries:,} interactions of this table is with a known item; known ones are like "
            f"{next(iter(kernel.items))!r}; pass a table with the item ids of the training data"
        )
    if found.kept < FEW_KNOWN * found.entries or found.having < FEW_KNOWN * found.with_entries:
        warn(
            f"only {found.kept:,} of the {found.entries:,} interactions of this table are with known items, and "
            f"{found.with_entries - found.having:,} of its {found.with_entries:,} users have none of these"
        )
    can = kernel.model.capabilities
    if can.scores_known_users and can.personal and found.trained < FEW_KNOWN * found.users:
        warn(
            f"{type(kernel.model).__name__} was trained on {found.trained:,} of these {found.users:,} users and takes "
            "the others for strangers"
        )


def _written(folder: Path) -> Iterator[tuple[Path, int, int]]:
    """Yield the files with lists in the folder that Spark wrote, with their rows and users."""
    if not (folder / "_SUCCESS").exists():
        raise ScoringError(
            f"the driver does not see what the workers wrote: {folder} must be one folder for all of them"
        )
    for file in sorted(folder.glob("part-*.parquet")):
        ranks = pq.read_table(file, columns=[RANK])[RANK]
        if len(ranks):
            yield file, len(ranks), int(pc.sum(pc.equal(ranks, 1)).as_py())


@dataclass(frozen=True)
class _Setup:
    """What a worker needs to know."""

    archive: str
    """Name of the archive of the bundle."""
    modules: tuple[str, ...]
    """That register the model and what it is made of."""
    n: int
    exclude_seen: bool
    rules: BoundRules | None
    reading: Reading
    shared: Path
    """Folder that the driver has just made, in which all write."""
    versions: tuple[str, ...] = field(default_factory=lambda: _versions())
    """Of what decides lists, at the driver."""


def _work(setup: _Setup, counts: Any) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that Spark sends to workers."""

    def work(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return score_partition(batches, setup, counts)

    return work


def score_partition(batches: Iterable[pa.RecordBatch], setup: _Setup, counts: Any) -> Iterator[pa.RecordBatch]:
    """Turn the rows of a partition into lists, in a worker."""
    from pyspark import SparkFiles

    if (own := _versions()) != setup.versions:
        raise ScoringError(
            f"a worker has {', '.join(own)}, and the driver {', '.join(setup.versions)}; install the same everywhere"
        )
    if not setup.shared.is_dir():
        raise ScoringError(
            f"a worker does not see {setup.shared}, which the driver has made; the output must be in one folder for all"
        )
    kernel = _opened(SparkFiles.get(setup.archive), setup.modules, setup.n, setup.exclude_seen, setup.rules)
    found = Counts()
    yield from kernel.batches(batches, setup.reading, found)
    counts.add(found)


@lru_cache(maxsize=1)
def _opened(
    folder: str, modules: tuple[str, ...], n: int, exclude_seen: bool, rules: BoundRules | None = None
) -> Kernel:
    """Return the kernel of a bundle, once per Python worker."""
    import torch

    torch.set_num_threads(1)  # Spark has a worker per core
    for module in modules:
        import_module(module)
    return Kernel.open(folder, n, exclude_seen, rules)


def _versions() -> tuple[str, ...]:
    """Return the packages here by which lists are computed, with their versions."""
    return f"recsys {version()}", *(f"{name} {metadata.version(name)}" for name in ("torch", "numpy", "scipy"))


def _modules(model: Recommender) -> tuple[str, ...]:
    """Return the modules that register the classes of a model and of its parts."""
    return tuple(sorted({type(one).__module__ for one in (model, *model.members())}))


class _Adding:
    """How Spark adds counts up."""

    def zero(self, value: Counts) -> Counts:
        return Counts()

    def addInPlace(self, one: Counts, other: Counts) -> Counts:
        one.add(other)
        return one


def _sent(spark: SparkSession, model: Recommender) -> str:
    """Send the bundle of a model to the workers, once per session and model; return the name of the archive."""
    if "__main__" in _modules(model):
        raise BundleError(f"{type(model).__name__} is defined in a script; workers need a module that they can import")
    context, name = spark.sparkContext, f"recsys-{model_checksum(model)}"
    if any(archive.endswith(f"{name}.zip#{name}") for archive in context.listArchives):
        return name
    # Executors that start later fetch it too, so that it stays as long as the session.
    folder = tempfile.mkdtemp(prefix="recsys-")
    weakref.finalize(context, shutil.rmtree, folder, ignore_errors=True)
    model.save(Path(folder, "bundle"))
    shutil.make_archive(str(Path(folder, name)), "zip", Path(folder, "bundle"))
    context.addArchive(f"{Path(folder, name)}.zip#{name}")
    return name


@contextmanager
def _removed(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the errors of workers as the errors of this package that they are, and others of Spark in one line."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
            yield
    except RecsysError:
        raise
    except Exception as error:
        if not type(error).__module__.startswith(("pyspark", "py4j")):
            raise
        text = str(error)
        if found := _ERROR.findall(text):
            name, message = found[-1]
            kind = getattr(errors, name, ScoringError)
            raise kind(message) from None
        if "No module named" in text and "recsys" in text:
            raise ScoringError(
                "workers cannot import recsys: install recsys[spark] on each, and set PYSPARK_PYTHON to its Python"
            ) from None
        raise ScoringError(f"Spark failed: {first_line(error)}") from error

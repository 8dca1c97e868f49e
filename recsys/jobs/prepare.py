"""Prepare the data of a configuration: read, filter and split them into shards, out of memory if need be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from recsys.config import JobConfig
from recsys.errors import ConfigError
from recsys.files import replacing_folder
from recsys.jobs.common import split_of
from recsys.preparing import UNSPLIT, Engine, Filter, Wanted, check_split, prepare, source_of
from recsys.shards import KIND, SCRATCH, Shards, open, write_split
from recsys.splits import options_of_kind
from recsys.workspace import Workspace, output_folder

EngineName = Literal["duckdb", "spark", "local"]


def run(
    workspace: Workspace,
    config: JobConfig,
    output: Path,
    *,
    engine: EngineName = "duckdb",
    memory: str = "1GB",
    unsplit: bool = False,
) -> Shards:
    """Write the shards of the data and the split of a configuration; return them.

    Equal data become equal files, bit for bit, whichever engine reads them.

    Args:
        output: folder of the shards; new, empty, or that of earlier ones.
        engine: `local` reads everything into memory, in every layout and for every split; `duckdb` and `spark` read
            parquet, csv and tsv for the splits of `recsys.preparing.SPLITS`.
        memory: what DuckDB may take for its buffers, or the heap of Spark's driver.
        unsplit: write all entries as one part, without the filters by count, which select what to train on: histories
            to score from.

    Raises:
        ConfigError: the engine cannot read these data or make this split, or `output` holds something else.
        DataError: the data cannot be read or split.
    """
    if config.data.shards is not None:
        raise ConfigError(f"data.shards = {config.data.shards!r} is prepared already; name a table with data.file")
    if unsplit and config.data.given.get("min_rating") is not None:
        raise ConfigError(
            "--unsplit is for histories, and data.min_rating would forget what users have seen; leave it out"
        )
    target = output_folder(output, ConfigError)
    KIND.check(target)
    made_of = {"data": config.as_dict()["data"], **({} if unsplit else {"split": config.as_dict()["split"]})}
    with replacing_folder(target, durable=True, kind=KIND) as beside:
        if engine == "local":
            data = config.data.histories(workspace.folder)[0] if unsplit else config.load_data(workspace.folder)
            split = data if unsplit else split_of(config, data)
            write_split(beside, split, {"data": data.summary(), "made_of": made_of})
        else:
            _prepare(config, beside, engine, memory, made_of)
    shards = open(target, check=False)
    for note in shards.manifest["notes"] if engine != "local" else ():
        print(f"split {config.split.kind}: {note}")
    parts = ", ".join(f"{name} {shards.rows_of(name):,} users" for name in shards.manifest["parts"])
    whole = "all     " if unsplit else "train   "
    print(f"{whole} {shards.train}\nheld out {parts or 'nothing'}\nwritten  {output}")
    return shards


def _prepare(config: JobConfig, beside: Path, engine: EngineName, memory: str, made_of: dict[str, Any]) -> None:
    """Fill a folder with shards by an engine, with intermediate files in a folder in it."""
    unsplit = "split" not in made_of
    try:
        file, options = config.data.table()
        if not unsplit:
            check_split(config.split.kind)
    except ConfigError as error:
        raise ConfigError(f"--engine {engine}: {error}; --engine local takes all data and splits, in memory") from None
    usual = {name: option.default for name, option in options_of_kind(config.split.kind).items()}
    chosen = Filter(**({} if unsplit else config.data.filters()), binary=config.data.binary)
    kind = UNSPLIT if unsplit else config.split.kind
    wanted = Wanted(options, chosen, kind, {**usual, **config.split.check()}, {"made_of": made_of})
    scratch = beside / SCRATCH
    scratch.mkdir()
    with _started(engine, scratch, memory) as started:
        prepare(started, source_of(file, options, scratch), wanted, beside, scratch)
    shutil.rmtree(scratch)


@contextmanager
def _started(engine: EngineName, scratch: Path, memory: str) -> Iterator[Engine]:
    if engine == "duckdb":
        from recsys.preparing.duck import DuckDB

        with DuckDB(scratch, memory) as duckdb:
            yield duckdb
    elif engine == "spark":
        from recsys.preparing.spark import Spark
        from recsys.scoring.spark_session import session

        with session(purpose="preparing on Spark", memory=memory) as spark:
            yield Spark(scratch, spark)
    else:
        raise ConfigError(f"there is no engine {engine!r}; choose duckdb, spark or local")

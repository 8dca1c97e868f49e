"""`recsys score --engine spark`: a table that Spark reads, as the model's training read its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from recsys.config import DataConfig
from recsys.errors import ConfigError
from recsys.jobs.arrivals import arrivals, with_arrivals
from recsys.jobs.common import load_model, section_for
from recsys.jobs.list_rules import items_for
from recsys.rules import Rules
from recsys.scoring import ScoringResult, TableReading, score_spark
from recsys.scoring.spark_session import session
from recsys.workspace import Workspace

_READ: Final = ("user", "item", "rating", "duplicates", "min_rating", "ids")
_NO_MATTER: Final = ("timestamp", "time_unit", "titles", "items", "min_user", "min_item", "separator", "encoding")
"""Keys of `[data]` that no list follows from, or that a file which Spark reads does not need."""


def run(
    workspace: Workspace,
    model: str,
    output: Path,
    *,
    n: int,
    data: str | None,
    master: str | None,
    rules: tuple[Rules | None, Path | None] = (None, None),
) -> ScoringResult:
    """Write the `n` best items of every user of a table by Spark; see `recsys.scoring.score_spark`.

    Args:
        rules: of the lists, and the table of items that was named for them.
    """
    fitted, pinned = load_model(workspace, model)
    chosen, named = rules
    section = section_for(fitted, model, data)
    table = arrivals(named, section)
    fitted = with_arrivals(fitted, table, ruled=chosen is not None)
    if section.shards is not None:
        raise ConfigError("Spark reads a table, and not shards; name the table, or score with --engine local")
    if section.file is None:
        raise ConfigError("--engine spark needs a table that Spark can read: --data FILE|FOLDER, parquet or simple csv")
    reading = reading_of(section)
    about: dict[str, Any] = {"model_uri": pinned, "asked_uri": model}
    about |= {"rules": chosen, "items": items_for(chosen, table, section)}
    with session(master, progress=workspace.progress) as spark:
        return score_spark(spark, fitted, section.file, output, n=n, reading=reading, **about)


def reading_of(section: DataConfig) -> TableReading:
    """Return how Spark is to read what a section of `[data]` describes; a ConfigError where it would read otherwise."""
    given: dict[str, Any] = {**section.check()}
    if given.get("layout", "auto") in ("auto", "parquet", "csv"):
        given.pop("layout", None)
    if given.get("separator", ",") != ",":
        raise ConfigError(
            "Spark reads .csv files with commas, and data.separator is another; write the table as parquet"
        )
    if str(given.get("encoding", "utf-8")).lower() not in ("utf-8", "utf8"):
        raise ConfigError("Spark reads .csv files of UTF-8, and data.encoding is another; write the table as parquet")
    if given.get("duplicates") == "last":
        raise ConfigError(
            "Spark cannot tell which of several rows of a user and item is the last, as data.duplicates asks for; "
            "prepare the table without repeats, or score with --engine local"
        )
    if other := sorted(name for name in given if name not in (*_READ, *_NO_MATTER)):
        raise ConfigError(
            f"the model was trained with data.{other[0]}, which Spark does not read; score with --engine local, "
            "or prepare a table of user_id, item_id and rating and use recsys.scoring.score_spark"
        )
    return TableReading(**{name: given[name] for name in _READ if name in given}, binary=section.binary)

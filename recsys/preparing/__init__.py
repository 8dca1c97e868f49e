"""Tables made into shards by an engine: DuckDB on one machine, Spark on several.

An engine reads the table, finds the distinct ids and sorts the rows (`engine`, `pipeline`). What follows is the same
for all engines and holds numbers per user and per item alone: repeated rows are merged, entries filtered (`entries`),
and the parts of the split written (`split`). So equal tables become equal shards, whichever engine read them, and those
of interactions in memory that `recsys.shards.write` writes.
"""

from recsys.preparing.engine import Engine
from recsys.preparing.entries import Filter
from recsys.preparing.pipeline import Wanted, check_split, prepare
from recsys.preparing.source import source_of
from recsys.preparing.split import SPLITS, UNSPLIT

__all__ = ["SPLITS", "UNSPLIT", "Engine", "Filter", "Wanted", "check_split", "prepare", "source_of"]

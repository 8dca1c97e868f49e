"""Interactions that do not fit in memory: a folder of memory-mapped shards, and the parts of a split in it.

`recsys prepare` makes it of tables; `write` makes it of `Interactions` or a `Split`; `open` reads it. A shard holds
consecutive users as `indptr` (int64), `indices` (int32), `values` (float32, left out where all are 1) and `times`;
`users.parquet` and `items.parquet` hold the external ids in the order of rows and columns, `manifest.json` sizes, parts
and the SHA-256 of every file.
"""

from recsys.shards.building import build as write_split
from recsys.shards.building import write
from recsys.shards.format import KIND, SCRATCH, is_shards
from recsys.shards.ids import StoredIds
from recsys.shards.reader import Shards, Stored, in_memory, open, prepared
from recsys.shards.writer import Builder, MatrixWriter, fingerprint_of_files

__all__ = [
    "KIND",
    "SCRATCH",
    "Builder",
    "MatrixWriter",
    "Shards",
    "Stored",
    "StoredIds",
    "fingerprint_of_files",
    "in_memory",
    "is_shards",
    "open",
    "prepared",
    "write",
    "write_split",
]

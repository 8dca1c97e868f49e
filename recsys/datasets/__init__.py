"""Data sets: readers of files, a catalog of known names, and a generator.

`load` finds a known data set by name, `read` reads a file or folder, `synthetic` makes up ratings of any size, and
`register_reader` adds a layout of files.
"""

from recsys.datasets.catalog import NAMES, SYNTHETIC, load
from recsys.datasets.generator import synthetic
from recsys.datasets.layouts import SPLIT, Reader
from recsys.datasets.readers import READERS, Located, locate, read, read_items, read_users, register_reader
from recsys.datasets.text import Request

__all__ = [
    "NAMES",
    "READERS",
    "SPLIT",
    "SYNTHETIC",
    "Located",
    "Reader",
    "Request",
    "load",
    "locate",
    "read",
    "read_items",
    "read_users",
    "register_reader",
    "synthetic",
]

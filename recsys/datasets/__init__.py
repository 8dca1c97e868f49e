"""Data sets: readers of the public layouts, a catalogue of known names, and a generator.

`load` finds a known data set by name, `read` reads a file or folder, `synthetic` makes up ratings of any size.
"""

from recsys.datasets.catalogue import NAMES, load
from recsys.datasets.generator import synthetic
from recsys.datasets.readers import Layout, read

__all__ = ["NAMES", "Layout", "load", "read", "synthetic"]

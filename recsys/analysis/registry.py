"""The analyses by the names that `recsys analyze --what` takes."""

from __future__ import annotations

from typing import Final

from recsys.analysis.findings import Analysis

ANALYSES: Final[dict[str, Analysis]] = {}
"""In the order of the page."""

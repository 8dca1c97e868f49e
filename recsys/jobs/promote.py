"""Give a registered model version the alias that the scoring job follows."""

from __future__ import annotations

from pathlib import Path

from recsys import tracking


def run(
    name: str, version: int | None = None, *, alias: str = "champion", reason: str = "", root: Path | None = None
) -> tracking.Promotion:
    """Set `alias` on a version (the newest by default) and print what changed.

    Raises:
        TrackingError: there is no store, no such model or version, or MLflow refuses the alias.
    """
    tracking.configure(root, create=False)
    promoted = tracking.promote(name, version, alias=alias, reason=reason)
    before = "no version" if promoted.previous is None else f"version {promoted.previous}"
    print(f"models:/{name}@{alias} is now version {promoted.version} (was {before})")
    return promoted

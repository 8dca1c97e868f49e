"""Aliases of versions: move one, record why and from which version, and move it back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recsys.errors import TrackingError
from recsys.tracking.machine import now
from recsys.tracking.registry import find_version, model_versions, version_tags
from recsys.tracking.requests import request
from recsys.tracking.store import connect, model_lock


@dataclass(frozen=True)
class Promotion:
    """The result of a promotion or rollback."""

    name: str
    version: int
    alias: str
    previous: int | None
    """The version that held the alias before; None if none did."""
    uri: str
    """`models:/NAME@ALIAS`."""


def promote(
    name: str,
    version: int | None = None,
    alias: str = "champion",
    reason: str = "",
    *,
    instead_of: int | Literal["any"] | None = "any",
    note: str = "",
    tags: Mapping[str, Any] | None = None,
) -> Promotion:
    """Give the alias to a version, and tag the version with the reason, the time and the previous holder.

    Promoting the version that already holds the alias changes nothing. Tags are written before the alias moves, so
    the holder always has them. Two concurrent promotions happen one after the other.

    Args:
        name: of the registered model.
        version: the latest by default.
        alias: letters, digits, `_` and `-`; jobs score with `models:/NAME@champion`.
        instead_of: the version that must hold the alias now, None for no version; `any` does not check.
        note: Markdown, appended to the version's description.
        tags: further tags of the version, stored as `<alias>_<tag>`.

    Raises:
        TrackingError: no such model or version, another version holds the alias, or MLflow refuses the alias.
    """
    with model_lock(name):
        versions = model_versions(name)
        if not versions:
            raise TrackingError(f"model {name!r} has no versions")
        chosen = versions[0] if version is None else find_version(name, version=version)
        previous = next((holder.version for holder in versions if alias in holder.aliases), None)
        if instead_of != "any" and previous != instead_of:
            raise TrackingError(
                f"{alias!r} of {name!r} is held by {_in_words(previous)} and no longer by {_in_words(instead_of)}: "
                "another promotion was faster; compare the challenger with the new holder"
            )
        if previous != chosen.version:
            facts = {**(tags or {}), "reason": reason, "previous": previous or "", "at": now()}
            _annotate(name, chosen.version, facts, alias, note)
            with request(f"cannot give {alias!r} to version {chosen.version} of {name!r}"):
                client = connect()
                client.set_registered_model_alias(name, alias, str(chosen.version))
                if f"{alias}_rolled_back" in client.get_model_version(name, str(chosen.version)).tags:
                    client.delete_model_version_tag(name, str(chosen.version), f"{alias}_rolled_back")
    return Promotion(name, chosen.version, alias, previous, f"models:/{name}@{alias}")


def annotate(name: str, version: int, tags: Mapping[str, Any], *, alias: str = "champion", note: str = "") -> None:
    """Tag a version, `<alias>_<tag>` each, and append a note to its description.

    Raises:
        TrackingError: no such model or version, or MLflow refuses.
    """
    with model_lock(name):
        _annotate(name, version, tags, alias, note)


def rollback(name: str, alias: str = "champion") -> Promotion:
    """Give the alias back to the version that held it before the last promotion.

    The version that loses it gets the tag `<alias>_rolled_back` with the time, until it is promoted again.

    Raises:
        TrackingError: no such model or alias, its holder was the first, or the version before it was deleted.
    """
    with model_lock(name):
        holder = find_version(name, alias=alias)
        before = version_tags(name, holder.version).get(f"{alias}_previous", "")
        if not before:
            raise TrackingError(
                f"version {holder.version} of {name!r} was the first {alias}: there is no previous version"
            )
        left = [other.version for other in model_versions(name) if other.version != holder.version]
        if int(before) not in left:
            raise TrackingError(
                f"version {before} of {name!r}, which held {alias!r} before version {holder.version}, was deleted; "
                f"promote another version: {', '.join(map(str, left)) or 'none is left, train one'}"
            )
        with request(f"cannot give {alias!r} back to version {before} of {name!r}"):
            client = connect()
            client.set_model_version_tag(name, str(holder.version), f"{alias}_rolled_back", now())
            client.set_registered_model_alias(name, alias, before)
    return Promotion(name, int(before), alias, holder.version, f"models:/{name}@{alias}")


def _annotate(name: str, version: int, tags: Mapping[str, Any], alias: str, note: str) -> None:
    with request(f"cannot tag version {version} of {name!r}"):
        client = connect()
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), f"{alias}_{tag}", str(value))
        if note:
            before = client.get_model_version(name, str(version)).description or ""
            client.update_model_version(name, str(version), f"{before}\n\n{note}".strip())


def _in_words(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"

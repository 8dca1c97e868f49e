"""Aliases of versions: who holds one, since when, why, and who held it before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from recsys.errors import TrackingError
from recsys.tracking.asking import quiet, refusals
from recsys.tracking.machine import now
from recsys.tracking.registry import model_versions, pick, version_tags
from recsys.tracking.store import connect, one_at_a_time


@dataclass(frozen=True)
class Promotion:
    """What a promotion did."""

    name: str
    version: int
    alias: str
    previous: int | None
    """The version that held the alias before; None where none did."""
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
    """Give the alias to a version, and tag that version with the reason, the time and the previous holder.

    Promoting the version that already holds the alias changes nothing. The tags are written first, so that an alias
    that has moved always says from where. Of two promotions at once the second begins where the first has ended.

    Args:
        name: of the registered model.
        version: the latest by default.
        alias: letters, digits, `_` and `-`; jobs score with `models:/NAME@champion`.
        instead_of: the version that must hold the alias still, None for no version; `any` does not look.
        note: Markdown for the version's description.
        tags: further tags of the version, named after the alias.

    Raises:
        TrackingError: no such model or version, another version holds the alias, or MLflow refuses the alias.
    """
    with one_at_a_time(name):
        versions = model_versions(name)
        if not versions:
            raise TrackingError(f"model {name!r} has no versions")
        chosen = versions[0] if version is None else pick(name, version=version)
        previous = next((found.version for found in versions if alias in found.aliases), None)
        if instead_of != "any" and previous != instead_of:
            raise TrackingError(
                f"{alias!r} of {name!r} is held by {_spoken(previous)} and no longer by {_spoken(instead_of)}: another "
                "promotion was faster; hold the challenger against the new one"
            )
        if previous != chosen.version:
            facts = {**(tags or {}), "reason": reason, "previous": previous or "", "at": now()}
            _annotate(name, chosen.version, facts, alias, note)
            with quiet(), refusals(f"cannot give {alias!r} to version {chosen.version} of {name!r}"):
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
    with one_at_a_time(name):
        _annotate(name, version, tags, alias, note)


def rollback(name: str, alias: str = "champion") -> Promotion:
    """Give the alias back to the version that held it before the last promotion.

    The version that loses it is tagged `<alias>_rolled_back` with the time, until it is promoted again.

    Raises:
        TrackingError: no such model or alias, its holder was the first, or the version before it was deleted.
    """
    with one_at_a_time(name):
        holder = pick(name, alias=alias)
        before = version_tags(name, holder.version).get(f"{alias}_previous", "")
        if not before:
            raise TrackingError(
                f"version {holder.version} of {name!r} was the first {alias}: there is none to go back to"
            )
        left = [found.version for found in model_versions(name) if found.version != holder.version]
        if int(before) not in left:
            raise TrackingError(
                f"version {before} of {name!r}, which held {alias!r} before version {holder.version}, was deleted; "
                f"promote another by hand, of {', '.join(map(str, left)) or 'those to be trained'}"
            )
        with quiet(), refusals(f"cannot give {alias!r} back to version {before} of {name!r}"):
            client = connect()
            client.set_model_version_tag(name, str(holder.version), f"{alias}_rolled_back", now())
            client.set_registered_model_alias(name, alias, before)
    return Promotion(name, int(before), alias, holder.version, f"models:/{name}@{alias}")


def _annotate(name: str, version: int, tags: Mapping[str, Any], alias: str, note: str) -> None:
    with quiet(), refusals(f"cannot tag version {version} of {name!r}"):
        client = connect()
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), f"{alias}_{tag}", str(value))
        if note:
            before = client.get_model_version(name, str(version)).description or ""
            client.update_model_version(name, str(version), f"{before}\n\n{note}".strip())


def _spoken(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"

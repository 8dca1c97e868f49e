"""Aliases of registered models: moved with a reason, and moved back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from recsys.errors import TrackingError, absent
from recsys.tracking.registry import find_version, model_versions, tags_of_versions, version_tags
from recsys.tracking.runs import now
from recsys.tracking.store import connect, model_lock, request

_ROLLBACK = "recsys.rollback"
"""Tag of a registered model while an alias is being rolled back, so that a killed rollback is not made twice."""


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
            raise absent(TrackingError(f"model {name!r} has no versions"))
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
                if f"{alias}_rolled_back" in client.get_model_version(name, str(chosen.version)).tags:
                    client.delete_model_version_tag(name, str(chosen.version), f"{alias}_rolled_back")
                client.set_registered_model_alias(name, alias, str(chosen.version))  # last: it is what counts
    return Promotion(name, chosen.version, alias, previous, f"models:/{name}@{alias}")


def annotate(name: str, version: int, tags: Mapping[str, Any], *, alias: str = "champion", note: str = "") -> None:
    """Tag a version, `<alias>_<tag>` each, and append a note, in place of one with the same first line, to its text.

    Raises:
        TrackingError: no such model or version, or MLflow refuses.
    """
    with model_lock(name):
        _annotate(name, version, tags, alias, note)


def tag_by(
    name: str,
    version: int,
    tag: str,
    choose: Callable[[Mapping[int, Mapping[str, str]]], str],
    *,
    dry_run: bool = False,
) -> str:
    """Tag a version with what `choose` makes of the tags of all versions, and return that.

    Of two processes that do so at the same time, one sees what the other has written.

    Raises:
        TrackingError: no such model or version, or MLflow refuses.
    """
    with nullcontext() if dry_run else model_lock(name):
        find_version(name, version=version)
        value = choose(tags_of_versions(name))
        if not dry_run:
            with request(f"cannot tag version {version} of {name!r}"):
                connect().set_model_version_tag(name, str(version), tag, value)
    return value


def rollback(name: str, alias: str = "champion") -> Promotion:
    """Give the alias back to the version that held it before the last promotion.

    The version that loses it gets the tag `<alias>_rolled_back` with the time, until it is promoted again.

    Raises:
        TrackingError: no such model or alias, its holder was the first, or the version before it was deleted.
    """
    with model_lock(name):
        holder = find_version(name, alias=alias)
        begun = _begun_rollback(name, alias)
        if begun is not None and begun[1] == holder.version:  # a killed process moved the alias, and came no further
            return _end_rollback(name, alias, *begun)
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
            client.set_registered_model_tag(name, f"{_ROLLBACK}.{alias}", f"{holder.version} to {before}")
            client.set_model_version_tag(name, str(holder.version), f"{alias}_rolled_back", now())
            client.set_registered_model_alias(name, alias, before)
        return _end_rollback(name, alias, holder.version, int(before))


def _begun_rollback(name: str, alias: str) -> tuple[int, int] | None:
    """Return the versions from and to which a rollback that has not ended was moving the alias."""
    with request(f"cannot read the registry about {name!r}"):
        tag = connect().get_registered_model(name).tags.get(f"{_ROLLBACK}.{alias}", "")
    match = re.fullmatch(r"(\d+) to (\d+)", tag)
    return None if match is None else (int(match[1]), int(match[2]))


def _end_rollback(name: str, alias: str, left: int, back: int) -> Promotion:
    with request(f"cannot end the rollback of {name!r}"):
        connect().delete_registered_model_tag(name, f"{_ROLLBACK}.{alias}")
    return Promotion(name, back, alias, left, f"models:/{name}@{alias}")


def _annotate(name: str, version: int, tags: Mapping[str, Any], alias: str, note: str) -> None:
    """Write the note first: who finds the tags takes all for done."""
    with request(f"cannot tag version {version} of {name!r}"):
        client = connect()
        if note:
            before = client.get_model_version(name, str(version)).description or ""
            client.update_model_version(name, str(version), _with_note(before, note))
        stored = client.get_model_version(name, str(version)).tags
        for tag, text in ((f"{alias}_{tag}", str(value)) for tag, value in tags.items()):
            if text:
                client.set_model_version_tag(name, str(version), tag, text)
            elif tag in stored:  # of an earlier promotion; MLflow would show a tag without a value
                client.delete_model_version_tag(name, str(version), tag)


def _with_note(description: str, note: str) -> str:
    """Return a description with a note at its end, in place of what a killed process wrote of the same."""
    first = note.strip().splitlines()[0]
    kept, found, _ = f"\n{description}".rpartition(f"\n{first}\n")
    return f"{kept if found else description}\n\n{note}".strip()


def _in_words(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"

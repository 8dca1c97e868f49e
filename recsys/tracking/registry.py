"""The registry: versions of registered models, and their aliases: moved with a reason, and moved back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from recsys.errors import TrackingError, did_you_mean
from recsys.tracking._mlflow import MlflowClient, MlflowException
from recsys.tracking.runs import now
from recsys.tracking.store import connect, model_lock, request

MODEL = "model"
"""Name of the logged model within its run."""
PRUNED = "recsys.pruned"
"""Tag of a logged model one of whose versions a prune has deleted, or was about to: `NAME/VERSION`."""
_NOT_COPIED = ("mlflow.", PRUNED)  # tags of a logged model that its versions do not get


_ROLLBACK = "recsys.rollback"
"""Tag of a registered model while an alias is being rolled back, so that a killed rollback is not made twice."""


@dataclass(frozen=True)
class RegisteredModel:
    """A version of a registered model."""

    name: str
    version: int
    uri: str
    """`models:/NAME/VERSION`."""
    run_id: str | None
    """The run that logged it."""
    aliases: tuple[str, ...] = ()


def register(run_id: str, name: str) -> RegisteredModel:
    """Register the model that a run has logged as the next version of `name`.

    Raises:
        TrackingError: no such run, it has logged no model, or MLflow refuses the name.
    """
    with request(f"cannot register {name!r}"):
        client = connect()
        model_id = logged_models(client, run_id).get(MODEL)
        if model_id is None:
            if was_deleted(client, run_id):
                raise TrackingError(f"the model of run {run_id}, to register as {name!r}, was deleted; train it again")
            raise TrackingError(f"run {run_id} has logged no model to register as {name!r}; call log_model first")
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={k: v for k, v in client.get_logged_model(model_id).tags.items() if not k.startswith(_NOT_COPIED)},
        )
    return _registered(version)


def registered_by(run_id: str, name: str) -> RegisteredModel | None:
    """Return the version of `name` that a run has registered, or None; MLflow's errors are not translated."""
    versions = MlflowClient().search_model_versions(f"run_id = '{run_id}'")
    return next((_registered(version) for version in versions if version.name == name), None)


def model_versions(name: str) -> list[RegisteredModel]:
    """Return the versions of a registered model, newest first.

    Raises:
        TrackingError: no such model.
    """
    with request(f"cannot read the registry about {name!r}"):
        client = connect()
        try:
            aliases = client.get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = [model.name for model in client.search_registered_models()]
            raise TrackingError(
                f"no model {name!r} is registered{did_you_mean(name, known) if known else ', nor any other'}"
            ) from None
        versions = [_registered(version, aliases) for version in client.search_model_versions(f"name = '{name}'")]
    return sorted(versions, key=lambda version: version.version, reverse=True)


def versions_if_any(name: str) -> list[RegisteredModel]:
    """Return the versions of a registered model, newest first; an empty list if there is no such model."""
    return model_versions(name) if name in registered_names() else []


def registered_names() -> list[str]:
    """Return the names of all registered models, in order."""
    with request("cannot read the registry"):
        client, pages = connect(), list[Any]()
        while not pages or pages[-1].token:  # a page holds 100
            pages.append(client.search_registered_models(page_token=pages[-1].token if pages else None))
        return sorted(model.name for page in pages for model in page)


def find_version(name: str, *, version: int | None = None, alias: str | None = None) -> RegisteredModel:
    """Return the version with that number, or with that alias.

    Raises:
        TrackingError: there is none; the message lists what exists.
    """
    versions = model_versions(name)
    for candidate in versions:
        if candidate.version == version or alias in candidate.aliases:
            return candidate
    numbers = ", ".join(str(candidate.version) for candidate in versions)
    aliases = ", ".join(f"{alias} ({candidate.version})" for candidate in versions for alias in candidate.aliases)
    asked = f"version {version}" if version is not None else f"alias {alias!r}"
    raise TrackingError(f"model {name!r} has no {asked}; versions: {numbers or 'none'}; aliases: {aliases or 'none'}")


def version_tags(name: str, version: int) -> dict[str, str]:
    """Return the tags of a version.

    Raises:
        TrackingError: no such model or version.
    """
    with request(f"cannot read version {version} of {name!r}"):
        return dict(connect().get_model_version(name, str(version)).tags)


def version_facts(name: str, version: int) -> dict[str, Any]:
    """Return `version, aliases, created, run, description, tags` of a version and `params, metrics` of its run.

    Raises:
        TrackingError: no such model or version.
    """
    registered = find_version(name, version=version)
    with request(f"cannot read version {version} of {name!r}"):
        client = connect()
        entity = client.get_model_version(name, str(version))
        run = None
        if registered.run_id:
            with suppress(MlflowException):  # the run may have been deleted
                run = client.get_run(registered.run_id)
    created = datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC).isoformat(timespec="seconds")
    return {
        "version": version,
        "aliases": list(registered.aliases),
        "created": created,
        "run": registered.run_id,
        "description": entity.description or "",
        "tags": dict(entity.tags),
        "params": dict(run.data.params) if run else {},
        "metrics": dict(run.data.metrics) if run else {},
    }


def delete_version(name: str, version: int) -> None:
    """Delete a version from the registry alone; the run, the logged model and its files stay.

    Raises:
        TrackingError: it holds an alias, or MLflow refuses.
    """
    with model_lock(name):
        aliases = find_version(name, version=version).aliases
        if aliases:
            raise TrackingError(f"version {version} of {name!r} is {', '.join(aliases)}; move the alias first")
        with request(f"cannot delete version {version} of {name!r}"):
            connect().delete_model_version(name, str(version))


def logged_models(client: MlflowClient, run_id: str) -> dict[str, str]:
    """Return the ids of the models that a run has logged, by name; the latest of each name that was not deleted."""
    models = [model for model in _outputs(client, run_id) if model is not None]
    return {model.name: model.model_id for model in sorted(models, key=lambda model: model.creation_timestamp)}


def was_deleted(client: MlflowClient, run_id: str) -> bool:
    """Return whether a model that a run has logged was deleted."""
    return None in _outputs(client, run_id)


def _outputs(client: MlflowClient, run_id: str) -> list[Any]:
    """Return the models that a run has logged; None for each that was deleted."""
    outputs, models = client.get_run(run_id).outputs, list[Any]()
    for output in outputs.model_outputs if outputs else []:
        try:
            models.append(client.get_logged_model(output.model_id))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            models.append(None)
    return models


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
            _end_rollback(name, alias)
            return Promotion(name, begun[1], alias, begun[0], f"models:/{name}@{alias}")
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
        _end_rollback(name, alias)
    return Promotion(name, int(before), alias, holder.version, f"models:/{name}@{alias}")


def _begun_rollback(name: str, alias: str) -> tuple[int, int] | None:
    """Return the versions from and to which a rollback that has not ended was moving the alias."""
    with request(f"cannot read the registry about {name!r}"):
        tag = connect().get_registered_model(name).tags.get(f"{_ROLLBACK}.{alias}", "")
    match = re.fullmatch(r"(\d+) to (\d+)", tag)
    return None if match is None else (int(match[1]), int(match[2]))


def _end_rollback(name: str, alias: str) -> None:
    with request(f"cannot end the rollback of {name!r}"):
        connect().delete_registered_model_tag(name, f"{_ROLLBACK}.{alias}")


def _annotate(name: str, version: int, tags: Mapping[str, Any], alias: str, note: str) -> None:
    """Write the note first: who finds the tags takes all for done."""
    with request(f"cannot tag version {version} of {name!r}"):
        client = connect()
        if note:
            before = client.get_model_version(name, str(version)).description or ""
            client.update_model_version(name, str(version), _with_note(before, note))
        for tag, value in tags.items():
            client.set_model_version_tag(name, str(version), f"{alias}_{tag}", str(value))


def _with_note(description: str, note: str) -> str:
    """Return a description with a note at its end, in place of what a killed process wrote of the same."""
    first = note.strip().splitlines()[0]
    kept, found, _ = f"\n{description}".rpartition(f"\n{first}\n")
    return f"{kept if found else description}\n\n{note}".strip()


def _in_words(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def _registered(entity: Any, aliases: Mapping[str, Any] | None = None) -> RegisteredModel:
    version = int(entity.version)
    return RegisteredModel(
        name=entity.name,
        version=version,
        uri=f"models:/{entity.name}/{version}",
        run_id=entity.run_id or None,
        aliases=tuple(sorted(alias for alias, holder in (aliases or {}).items() if int(holder) == version)),
    )

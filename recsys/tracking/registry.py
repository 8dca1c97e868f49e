"""The registry: registered models and their versions."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from recsys.errors import TrackingError, absent, did_you_mean
from recsys.tracking._mlflow import MlflowClient, MlflowException, entities
from recsys.tracking.store import connect, model_lock, request

MODEL = "model"
"""Name of the logged model within its run."""
PRUNED = "recsys.pruned"
"""Tag of a logged model one of whose versions a prune has deleted, or was about to: `NAME/VERSION`."""
NOTE = "mlflow.note.content"
"""Tag of an experiment, a run or a logged model with its description, as Markdown."""
_NOT_COPIED = ("mlflow.", PRUNED)  # tags of a logged model that its versions do not get


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


def register(run_id: str, name: str, model_id: str | None = None) -> RegisteredModel:
    """Register the model that a run has logged, of that id if it is known, as the next version of `name`.

    Raises:
        TrackingError: no such run, it has logged no model, or MLflow refuses the name.
    """
    with request(f"cannot register {name!r}"):
        client = connect()
        model_id = model_id or logged_models(client, run_id).get(MODEL)
        if model_id is None:
            if was_deleted(client, run_id):
                raise TrackingError(f"the model of run {run_id}, to register as {name!r}, was deleted; train it again")
            raise TrackingError(f"run {run_id} has logged no model to register as {name!r}; call log_model first")
        model = client.get_logged_model(model_id)
        if model.status != entities.LoggedModelStatus.READY:
            raise TrackingError(f"the model of run {run_id} was not logged completely; log it again")
        try:
            client.create_registered_model(name, description=_ABOUT)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            model_id=model_id,
            tags={k: v for k, v in model.tags.items() if not k.startswith(_NOT_COPIED)},
            description=client.get_run(run_id).data.tags.get(NOTE),
        )
    return _registered(version)


_ABOUT = (
    "Recommenders that recsys has trained. Scoring follows the alias `champion`; a version's description says what it "
    "is, and how its contests ended."
)


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
            also = did_you_mean(name, known) if known else ", nor any other"
            raise absent(TrackingError(f"no model {name!r} is registered{also}")) from None
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
    raise absent(
        TrackingError(f"model {name!r} has no {asked}; versions: {numbers or 'none'}; aliases: {aliases or 'none'}")
    )


def version_tags(name: str, version: int) -> dict[str, str]:
    """Return the tags of a version.

    Raises:
        TrackingError: no such model or version.
    """
    with request(f"cannot read version {version} of {name!r}"):
        return dict(connect().get_model_version(name, str(version)).tags)


def tags_of_versions(name: str) -> dict[int, dict[str, str]]:
    """Return the tags of each version of a registered model by its number."""
    with request(f"cannot read the registry about {name!r}"):
        return {int(found.version): dict(found.tags) for found in connect().search_model_versions(f"name = '{name}'")}


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


def _registered(entity: Any, aliases: Mapping[str, Any] | None = None) -> RegisteredModel:
    version = int(entity.version)
    return RegisteredModel(
        name=entity.name,
        version=version,
        uri=f"models:/{entity.name}/{version}",
        run_id=entity.run_id or None,
        aliases=tuple(sorted(alias for alias, holder in (aliases or {}).items() if int(holder) == version)),
    )

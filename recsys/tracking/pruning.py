"""Old versions of a registered model, deleted with the files of their logged models.

A version goes first, then the files, then MLflow's record of the logged model; so no version ever points to files that
are gone. A tag that the logged model gets before all that lets the next prune of the same name finish what was
interrupted: it removes what is tagged and no longer needed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from recsys.tracking._mlflow import MlflowClient, MlflowException, entities, mlflow
from recsys.tracking.home import local_path
from recsys.tracking.model_files import ModelFiles, find
from recsys.tracking.registry import PRUNED, model_versions, version_tags
from recsys.tracking.store import connect, model_lock, request
from recsys.workspace import Workspace

_PAGE = 1000
_LOGGED = re.compile(r"models:/(m-[0-9a-f]+)|.*/models/(m-[0-9a-f]+)/artifacts")


@dataclass(frozen=True)
class Pruned:
    """What became, or would become, of a version or of files that an interrupted prune has left."""

    uri: str
    """`models:/NAME/VERSION`, or `models:/ID` of a logged model whose version is gone already."""
    version: int | None
    """None if it is gone already."""
    freed: int = 0
    """Bytes of the files that are removed."""
    stays: str = ""
    """Why the files stay; empty if they are removed."""
    kept: str = ""
    """Why nothing is deleted, and what to do; empty if it is."""


def needed_versions(name: str) -> set[int]:
    """Return the versions that have an alias, and those that a rollback would go back to.

    Raises:
        TrackingError: no such model.
    """
    needed = set()
    for version in model_versions(name):
        for alias in version.aliases:
            previous = version_tags(name, version.version).get(f"{alias}_previous", "")
            needed |= {version.version, *([int(previous)] if previous else [])}
    return needed


def prune(workspace: Workspace, name: str, versions: list[int], *, delete: bool) -> Iterator[Pruned]:
    """Delete versions with their files, one after the other; first the files that an interrupted prune has left.

    Files stay if another version, or a run other than the model's own, needs them, and where `model_files.find` says
    so. A version stays if its folder holds anything that logging a model does not write, or if it is needed by now.

    Args:
        workspace: whose store is configured.
        name: of the registered model.
        versions: their numbers.
        delete: False only says what would happen.

    Raises:
        TrackingError: MLflow refuses, or files cannot be removed; the same call finishes what was begun.
    """
    work = _Work(workspace, name, delete)
    yield from work.leftovers()
    for number in versions:
        with model_lock(name) if delete else nullcontext():
            # Another process may have been faster.
            if not delete or number in {version.version for version in model_versions(name)}:
                yield work.version(number)


class _Work:
    """One prune: what it looks up once, and its steps."""

    def __init__(self, workspace: Workspace, name: str, delete: bool) -> None:
        self.workspace, self.name, self.delete = workspace, name, delete
        self._gone: set[tuple[str, str, int]] = set()
        self._locations: dict[tuple[str, str, int], str] = {}

    def leftovers(self) -> Iterator[Pruned]:
        """Remove the files of tagged models that nothing needs any more."""
        with request(f"cannot look for what an earlier prune of {self.name!r} has left"):
            models = [m for m in self._tagged() if m.tags.get(PRUNED, "").rpartition("/")[0] == self.name]
        for model in models:
            with model_lock(self.name) if self.delete else nullcontext():
                with request(f"cannot read {model.model_id}"):
                    is_there = not self.delete or _logged_model(model.model_id) is not None
                if is_there and not self._needed_by(model):
                    uri, files = f"models:/{model.model_id}", find(model, self.workspace)
                    yield (
                        Pruned(uri, None, kept=_stray(files)) if files.stray else self._remove(uri, None, model, files)
                    )

    def version(self, number: int) -> Pruned:
        """Delete a version and the files that only it needs."""
        uri = f"models:/{self.name}/{number}"
        if self.delete and number in needed_versions(self.name):
            return Pruned(uri, number, kept="an alias or a rollback needs it now")
        with request(f"cannot read {uri}"):
            model, stays = self._logged_model(number)
        key = mlflow.get_registry_uri(), self.name, number
        self._gone.add(key)
        files = ModelFiles("", stays=stays) if model is None else find(model, self.workspace)
        if files.stray and not self._needed_by(model):
            self._gone.remove(key)
            return Pruned(uri, number, kept=_stray(files))
        if self.delete:
            with request(f"cannot delete {uri}"):
                client = connect()
                if model is not None and not _is_foreign(files):
                    client.set_logged_model_tags(model.model_id, {PRUNED: f"{self.name}/{number}"})
                client.delete_model_version(self.name, str(number))
        return self._remove(uri, number, model, files)

    def _remove(self, uri: str, number: int | None, model: Any, files: ModelFiles) -> Pruned:
        needed = "" if model is None else self._needed_by(model)
        if needed or _is_foreign(files):
            return Pruned(uri, number, stays=needed or files.stays)
        if self.delete:
            if not files.stays:
                files.remove()
            with request(f"cannot delete the logged model {model.model_id}"):
                connect().delete_logged_model(model.model_id)
        return Pruned(uri, number, files.size, files.stays)

    def _logged_model(self, number: int) -> tuple[Any, str]:
        """Return the logged model of a version; or None, and why its files stay."""
        client = connect()
        version = client.get_model_version(self.name, str(number))
        location = client.get_model_version_download_uri(self.name, str(number))
        found = _LOGGED.fullmatch(version.source) or _LOGGED.fullmatch(location)
        if found is None:
            return None, f"{location} is not the folder of a logged model"
        model = _logged_model(found[1] or found[2])
        return model, "" if model else f"{location} is left to `mlflow gc`, for the logged model was deleted in MLflow"

    def _needed_by(self, model: Any) -> str:
        """Return what else needs a logged model, as a reason; empty if nothing does."""
        with request(f"cannot look for what needs {model.model_id}"):
            for uri in sorted({mlflow.get_registry_uri(), mlflow.get_tracking_uri()}):
                for version in _versions(MlflowClient(registry_uri=uri)):
                    if (uri, version.name, int(version.version)) not in self._gone and self._points(
                        uri, version, model
                    ):
                        return f"models:/{version.name}/{version.version} needs them"
            runs = self._runs[model.model_id] - {model.source_run_id}
            return f"run {min(runs)} needs them" if runs else ""

    def _points(self, registry: str, version: Any, model: Any) -> bool:
        if direct := re.fullmatch(r"models:/(m-[0-9a-f]+)", version.source or ""):
            return bool(direct[1] == model.model_id)
        key = registry, version.name, int(version.version)  # a copy of another version, or a path
        if key not in self._locations:
            client = MlflowClient(registry_uri=registry)
            self._locations[key] = client.get_model_version_download_uri(version.name, version.version) or ""
        one, other = (
            str(local_path(place) or place).rstrip("/") + "/"
            for place in (self._locations[key], model.artifact_location)
        )
        return one.startswith(other) or other.startswith(one)

    @cached_property
    def _experiments(self) -> list[str]:
        def search(token: str | None) -> Any:
            return connect().search_experiments(view_type=entities.ViewType.ALL, max_results=_PAGE, page_token=token)

        return [experiment.experiment_id for experiment in _pages(search)]

    @cached_property
    def _runs(self) -> defaultdict[str, set[str]]:
        """Ids of the runs that have read or logged a model, by its id."""

        def search(token: str | None) -> Any:
            return connect().search_runs(self._experiments, max_results=_PAGE, page_token=token)

        found = defaultdict[str, set[str]](set)
        for listed in _pages(search):
            run = connect().get_run(listed.info.run_id)  # which models it has read is not in the listing
            inputs = run.inputs.model_inputs if run.inputs else []
            outputs = run.outputs.model_outputs if run.outputs else []
            for model in [*(inputs or []), *(outputs or [])]:
                found[model.model_id].add(run.info.run_id)
        return found

    def _tagged(self) -> list[Any]:
        def search(token: str | None) -> Any:
            tagged = f"tags.`{PRUNED}` LIKE '%'"
            return connect().search_logged_models(self._experiments, tagged, page_token=token)

        return list(_pages(search))


def _logged_model(model_id: str) -> Any:
    """Return a logged model; None if it was deleted."""
    try:
        return connect().get_logged_model(model_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


def _versions(client: MlflowClient) -> Iterator[Any]:
    return _pages(lambda token: client.search_model_versions(max_results=_PAGE, page_token=token))


def _pages(search: Any) -> Iterator[Any]:
    """Yield what a search finds, page after page."""
    token = None
    while True:
        page = search(token)
        yield from page
        token = page.token
        if not token:
            return


def _is_foreign(files: ModelFiles) -> bool:
    """Return whether nothing may ever remove them: the record of the model stays, so that `mlflow gc` does not."""
    return bool(files.stays) and not files.of_server


def _stray(files: ModelFiles) -> str:
    return f"{files.stray} is not a file that logging a model writes; move it elsewhere and repeat the command"

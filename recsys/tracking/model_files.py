"""The files of a logged model: which of them logging has written, how large they are, and their removal."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from recsys.errors import TrackingError
from recsys.models.saved import BUNDLE
from recsys.tracking._mlflow import ArtifactRepository, artifact_repository, mlflow
from recsys.tracking.home import local_path
from recsys.tracking.home import uri as local_uri
from recsys.tracking.store import connect, request
from recsys.workspace import Workspace

CODE_FILES = "code_files"
"""Key of MLmodel's metadata: the names of all files under `code/`."""
_CODE = "code"
_INDEX = "MLmodel"
_FIXED = {
    _INDEX,
    "conda.yaml",
    "python_env.yaml",
    "requirements.txt",
    "pyfunc_model.py",
    "input_example.json",
    "serving_input_example.json",
    "code/recsys.zip",
    "registered_model_meta",  # written when the model is loaded by its registered name
    *(f"artifacts/{BUNDLE}/{name}" for name in ("config.json", "weights.safetensors", "metrics.json")),
    *(f"artifacts/{BUNDLE}/{name}" for name in ("items.parquet", "users.parquet")),
}
_UNFINISHED = ".artifact.uploading."  # MLflow's prefix of files that it has not finished writing
_COMPILED = re.compile(r"(.*/|)__pycache__/([^/]+?)\.[^/.]+(\.opt-\d)?\.pyc")
_SOURCE = re.compile(r"code/.*\.pyi?|code/recsys/(py\.typed|report/page\.(css|js))")


@dataclass(frozen=True)
class ModelFiles:
    """The files of a logged model, as they were when they were looked at."""

    location: str
    """Their folder, or its URI in another store."""
    size: int = 0
    """Bytes of all of them."""
    stray: str = ""
    """The first that logging a model does not write; empty if there is none."""
    stays: str = ""
    """Why they must stay where they are; empty if they may be removed."""
    of_server: bool = False
    """They stay because only the server can remove them, with `mlflow gc`."""
    remove: Callable[[], None] = lambda: None
    """Remove them. What was interrupted can be repeated from `find` on.

    Raises:
        TrackingError: some could not be removed.
    """


def code_files(paths: Iterable[Path]) -> list[str]:
    """Return the names below `code/` of what MLflow copies there from these files and folders."""
    names = []
    for path in paths:
        files = path.rglob("*") if path.is_dir() else [path]
        names += [f.relative_to(path.parent).as_posix() for f in files if f.is_file() and "__pycache__" not in f.parts]
    return sorted(names)


def find(model: Any, workspace: Workspace | None) -> ModelFiles:
    """Look at the files of a logged model.

    Files in a folder of this machine may be removed if it is the one that MLflow chooses, below the experiment's own,
    and no link leads there. In the own store of `workspace`, if that is given, it must lie in `mlruns/artifacts`, too.

    Raises:
        TrackingError: they cannot be read.
    """
    location = model.artifact_location
    folder = local_path(location)
    with request(f"cannot look at the files of {model.model_id}"):
        if folder is None:
            return _in_repository(location)
        uri = mlflow.get_tracking_uri()
        if urlsplit(uri).scheme in ("http", "https"):
            return _kept_by_server(location)
        root = local_path(connect().get_experiment(model.experiment_id).artifact_location)
    own = workspace.mlruns / "artifacts" if workspace is not None and uri == local_uri(workspace) else root
    if root is None or own is None or not root.is_absolute() or not root.is_relative_to(own):
        return ModelFiles(str(folder), stays=f"{folder} lies outside {own}")
    if folder != root / "models" / model.model_id / "artifacts":
        return ModelFiles(str(folder), stays=f"{folder} is not the folder that MLflow gives the model")
    for part in (folder, *folder.parents):
        if part.is_symlink():
            return ModelFiles(str(folder), stays=f"{part} is a link")
        if part == own:
            break
    try:
        return _in_folder(folder, model.model_id)
    except OSError as error:
        raise TrackingError(f"cannot look at the files of {model.model_id}: {error}") from error


def _in_folder(folder: Path, model_id: str) -> ModelFiles:
    sizes, folders, links = dict[str, int](), list[str](), list[str]()
    for entry in _entries(folder):
        name = Path(entry.path).relative_to(folder).as_posix()
        if entry.is_dir(follow_symlinks=False):
            folders.append(name)
        elif entry.is_file(follow_symlinks=False):
            sizes[name] = entry.stat(follow_symlinks=False).st_size
        else:
            links.append(name)
    index = _index(folder / _INDEX) if _INDEX in sizes else None
    if index is not None and index.model_id != model_id:
        return ModelFiles(str(folder), stays=f"{folder / _INDEX} is that of another model, {index.model_id}")
    stray = min([*links, *_strays(index, sizes, folders)], default="")
    return ModelFiles(
        str(folder),
        sum(sizes.values()),
        stray=stray and str(folder / stray),
        remove=partial(_remove_from, folder, sizes, folders),
    )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield what a folder and its folders hold; links are not followed."""
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            yield entry
            if entry.is_dir(follow_symlinks=False):
                yield from _entries(Path(entry.path))


def _remove_from(folder: Path, sizes: Mapping[str, int], folders: Iterable[str]) -> None:
    """Remove files and folders that were looked at; what has come since stays."""
    try:
        # MLmodel lists what may be removed, so it goes last: a removal that was interrupted can go on.
        for name in sorted(sizes.keys() - {_INDEX}):
            (folder / name).unlink(missing_ok=True)
        for name in sorted(folders, reverse=True):
            with suppress(FileNotFoundError):
                (folder / name).rmdir()
        (folder / _INDEX).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            folder.rmdir()
        with suppress(FileNotFoundError):
            if not any(folder.parent.iterdir()):  # MLflow keeps nothing beside it, but somebody may
                folder.parent.rmdir()
    except OSError as error:
        raise TrackingError(f"cannot remove the files in {folder}: {error}; repeat the command to go on") from error


def _in_repository(location: str) -> ModelFiles:
    try:
        repository = artifact_repository(location)
        if type(repository).delete_artifacts is ArtifactRepository.delete_artifacts:
            return _kept_by_server(location)
        sizes, folders = _listed(repository)
        index = None
        if _INDEX in sizes:
            with tempfile.TemporaryDirectory() as folder:
                index = _index(Path(repository.download_artifacts(_INDEX, folder)))
    except ImportError as error:
        raise TrackingError(f"cannot reach {location}: {error}; install it and repeat the command") from error
    stray = min(_strays(index, sizes, folders), default="")

    def remove() -> None:
        with request(f"cannot remove the files in {location}"):
            if not sizes:
                return
            repository.delete_artifacts()
            if left := repository.list_artifacts():
                raise TrackingError(f"{location} still holds {left[0].path}; repeat the command to go on")

    return ModelFiles(location, sum(sizes.values()), stray=stray and f"{location}/{stray}", remove=remove)


def _listed(repository: Any) -> tuple[dict[str, int], list[str]]:
    """Return the sizes of all files of a repository by name, and the names of its folders."""
    sizes, folders, waiting = dict[str, int](), list[str](), [None]
    while waiting:
        for found in repository.list_artifacts(waiting.pop()):
            if found.is_dir:
                folders.append(found.path)
                waiting.append(found.path)
            else:
                sizes[found.path] = found.file_size or 0
    return sizes, folders


def _kept_by_server(location: str) -> ModelFiles:
    return ModelFiles(location, stays="the server keeps them until `mlflow gc` runs there", of_server=True)


def _index(path: Path) -> Any:
    """Return what MLmodel says; None if it is damaged, because a damaged model may be removed, too."""
    try:
        return mlflow.models.Model.load(str(path))
    except Exception:  # yaml and MLflow raise whatever a file of nonsense leads them to
        return None


def _strays(index: Any, names: Iterable[str], folders: Iterable[str]) -> list[str]:
    """Return the files and folders that logging a model does not write."""
    metadata = getattr(index, "metadata", None)
    listed = metadata.get(CODE_FILES) if isinstance(metadata, dict) else None
    if isinstance(listed, list):
        code = {f"{_CODE}/{name}" for name in listed}
    else:  # logged before the names were listed
        code = {name for name in names if _SOURCE.fullmatch(name)}
    known = _FIXED | code
    parents = {str(parent) for name in known for parent in PurePosixPath(name).parents} | {_CODE}

    def is_ours(name: str) -> bool:
        compiled = _COMPILED.fullmatch(name)
        return (
            name in known
            or PurePosixPath(name).name.startswith(_UNFINISHED)
            or (compiled is not None and f"{compiled[1]}{compiled[2]}.py" in known)
        )

    strays = [name for name in names if not is_ours(name)]
    for name in folders:
        path = PurePosixPath(name)
        if str(path.parent if path.name == "__pycache__" else path) not in parents:
            strays.append(name)
    return strays

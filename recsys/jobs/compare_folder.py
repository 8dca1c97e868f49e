"""The output folder of a comparison: tables, a folder per model, and a manifest that lists what was written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recsys.claims import OLD, is_lock, leftovers, remove_dead_files
from recsys.errors import ConfigError
from recsys.files import MANIFEST, locked, read_json, replacing, replacing_folder, sha256_of_file, write_text
from recsys.outputs import Kind, recover

TABLES: Final = ("table.md", "table.csv", "pairs.csv", "comparison.png")
"""The files of the folder itself."""
DONE: Final = "done.json"
EVALUATION: Final = ("per_user.parquet", "summary.parquet")
"""What a model's folder holds of its result."""
_OF_A_MODEL: Final = (*EVALUATION, "trials.csv", "best.toml", DONE)
_MODELS, _LOCK = "models", ".lock"
_BEGINNINGS: Final = {"table.md": "Test part of ", "table.csv": "model,", "pairs.csv": "metric,better,worse,"}
"""How the tables of version 0.2.0 begin, which wrote no manifest."""


@dataclass(frozen=True)
class CompareFolder:
    """The folder of a comparison, in which finished models stay.

    `_manifest.json` lists what was written, under `files`, and the models of the last comparison, under `models`. It
    lists a file before that has its name, so that a kill leaves nothing that is not listed.
    """

    folder: Path
    """The folder itself, no link to it."""

    def check_early(self) -> None:
        """Refuse what `check` refuses, without holding the lock beyond the call."""
        try:
            self.check()
        except (ConfigError, FileNotFoundError):  # or what was met is a job at work, which `locked` then says
            with self.locked():
                self.check()

    def check(self) -> None:
        """Refuse, by a ConfigError, a folder that holds what no comparison has written."""
        COMPARISON.check(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other comparisons away for the block; a folder in which nothing was written then goes again."""
        busy = ConfigError(f"another process is comparing in {self.folder}; wait for it, or choose another folder")
        new = not self.folder.exists()
        try:
            with locked(self.folder / _LOCK, busy=busy):
                yield
        finally:
            if new and self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def begin(self, models: Sequence[str], version: str) -> None:
        """Remove what a killed comparison left half written, and name the models of this one in the manifest."""
        self.check()
        for name in (*TABLES, MANIFEST):
            remove_dead_files(self.folder / name)
        for name in {*models, *_names_of_models(self.folder)}:
            if (self.folder / _MODELS).is_dir():
                recover(self.model(name), self._kind_of(name))
        self._write({"recsys": version, "models": list(models), "files": _files(self.folder) or []})

    def model(self, name: str) -> Path:
        """Return the folder of a model."""
        return self.folder / _MODELS / name

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return what `done.json` of a model holds; None where it is not finished, or damaged."""
        facts = read_json(self.model(name) / DONE)
        return facts if facts is not None and _is_done(facts) and _are_whole(self.model(name), facts) else None

    @contextmanager
    def writing(self, name: str, facts: dict[str, Any]) -> Iterator[Path]:
        """Give a folder to fill, which becomes that of a model at the end of the block, with `done.json` of `facts`."""
        with replacing_folder(self.model(name), durable=True, kind=self._kind_of(name)) as new:
            yield new
            sums = {file: sha256_of_file(new / file) for file in EVALUATION}
            (new / DONE).write_text(json.dumps({**facts, "sha256": sums}, indent=1) + "\n", encoding="utf-8")
            self._list(f"{_MODELS}/{name}/{file.name}" for file in sorted(new.iterdir()))

    @contextmanager
    def table(self, name: str) -> Iterator[Path]:
        """Give a file to write, which becomes one of `TABLES` at the end of the block."""
        with replacing(self.folder / name, durable=True) as new:
            yield new
            self._list([name])

    def _kind_of(self, name: str) -> Kind:
        """Return whose the folder of a model is: what the manifest lists below it."""

        def listed(_: Path) -> list[str]:
            names = [path.removeprefix(f"{_MODELS}/{name}/") for path in _files(self.folder) or []]
            return sorted((path for path in names if "/" not in path and path not in TABLES), key=DONE.__eq__)

        return Kind("a comparison", ConfigError, DONE, listed, _OF_A_MODEL.__contains__)

    def _list(self, names: Iterable[str]) -> None:
        """Add files to the manifest that are about to get their names, where nobody else has put any."""
        self.check()
        manifest = read_json(self.folder / MANIFEST) or {}
        self._write({**manifest, "files": list(dict.fromkeys([*(_files(self.folder) or []), *names]))})

    def _write(self, manifest: dict[str, Any]) -> None:
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n", durable=True)


def _listed(folder: Path) -> list[str] | None:
    """Return all that comparisons have written into a folder, the manifest last; None where that is not known."""
    files, lock, models = _files(folder), folder / _LOCK, folder / _MODELS
    begun = [path.name for name in (*TABLES, MANIFEST) for path in leftovers(folder / name)]
    begun += [_LOCK] if lock.is_file() and is_lock(lock) else []
    if files is None:
        return begun or None
    for name in _names_of_models(folder):
        for ending in ("", OLD):
            for left in leftovers(models / name, folder=True, ending=ending):
                begun += [f"{_MODELS}/{left.name}/{file}" for file in _OF_A_MODEL]
    return [*files, *begun, MANIFEST]


COMPARISON: Final = Kind("the output of a comparison", ConfigError, MANIFEST, _listed, folders=(_MODELS,))
"""The folder that `recsys compare` leaves."""


def _files(folder: Path) -> list[str] | None:
    """Return the files that the manifest of a folder lists, or without one those that version 0.2.0 wrote."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return _files_without_manifest(folder)
    return (_read_manifest(folder) or {}).get("files")


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return a comparison's manifest; None where there is none or it is none of ours."""
    manifest = read_json(folder / MANIFEST)
    if manifest is None or not isinstance(manifest.get("recsys"), str):
        return None
    files, models = manifest.get("files"), manifest.get("models")
    if not isinstance(files, list) or not isinstance(models, list):
        return None
    return manifest if all(map(_is_file_of, files)) and all(map(is_name, models)) else None


def _names_of_models(folder: Path) -> list[str]:
    manifest = _read_manifest(folder) or {"models": []}
    listed = (name.split("/")[1] for name in _files(folder) or [] if "/" in name)
    return list(dict.fromkeys([*manifest["models"], *listed]))


def _files_without_manifest(folder: Path) -> list[str] | None:
    """Return what a comparison of version 0.2.0 wrote: of models by their `done.json`, tables by how they begin."""
    files = []
    if (folder / _MODELS).is_dir() and not (folder / _MODELS).is_symlink():
        for model in sorted((folder / _MODELS).iterdir()):
            if is_name(model.name) and not model.is_symlink() and _is_done(read_json(model / DONE) or {}):
                files += [f"{_MODELS}/{model.name}/{name}" for name in _OF_A_MODEL if (model / name).is_file()]
    if not files:
        return None
    tables = [name for name, text in _BEGINNINGS.items() if _begins(folder / name, text)]
    return [*files, *(TABLES if len(tables) == len(_BEGINNINGS) else tables)]


def _begins(path: Path, text: str) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(text.encode())) == text.encode()


def _is_file_of(name: Any) -> bool:
    """Return whether a name of a manifest is that of a file which a comparison writes."""
    if not isinstance(name, str):
        return False
    parts = name.split("/")
    model = len(parts) == 3 and parts[0] == _MODELS and is_name(parts[1]) and parts[2] in _OF_A_MODEL
    return model or name in TABLES


def is_name(name: Any) -> bool:
    """Return whether a model of that name can have a folder."""
    plain = isinstance(name, str) and name[:1] not in ("", ".") and Path(name).name == name
    return plain and not set(name) & set("\\\0")


def _is_done(facts: dict[str, Any]) -> bool:
    """Return whether a JSON object is what a comparison writes of a model."""
    kinds = {"digest": str, "model": str, "trials": int, "validation": dict, "hyperparameters": dict}
    return all(isinstance(facts.get(key), kind) for key, kind in kinds.items()) and all(
        isinstance(value, float | int) for value in facts["validation"].values()
    )


def _are_whole(folder: Path, facts: dict[str, Any]) -> bool:
    """Return whether the tables of a model are as they were written; version 0.2.0 wrote no checksums."""
    sums = facts.get("sha256", {})
    if not isinstance(sums, dict):
        return False
    files = [folder / name for name in EVALUATION]
    return all(file.is_file() and sha256_of_file(file) == sums.get(file.name, sha256_of_file(file)) for file in files)

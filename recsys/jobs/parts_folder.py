"""An output folder whose parts are made one after another and stay: of a comparison, or of analyses of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from recsys.claims import OLD, is_lock, leftovers, remove_dead_files
from recsys.errors import ConfigError, OutputError
from recsys.files import MANIFEST, locked, read_json, replacing, replacing_folder, sha256_of_file, write_text
from recsys.outputs import Kind, recover

DONE: Final = "done.json"
"""What a part's folder has besides its files: its facts, and that it is whole."""
_LOCK: Final = ".lock"


@dataclass(frozen=True)
class Layout:
    """What such a folder holds."""

    what: str
    """With its article, such as `the output of a comparison`."""
    part: str
    """What a part is, such as `a comparison`."""
    busy: str
    """What another process does in it, such as `comparing`."""
    files: tuple[str, ...]
    """The files of the folder itself."""
    group: str
    """The folder of its parts, and their key in the manifest."""
    is_part_file: Callable[[str], bool]
    """Whether a part may have a file of that name, besides `DONE`."""
    is_done: Callable[[Mapping[str, Any]], bool]
    """Whether a JSON object holds the facts of a part."""
    needed: tuple[str, ...] = ()
    """Files that each part has."""
    without_manifest: Callable[[Path], list[str] | None] = lambda folder: None
    """The files of a folder that has no manifest but is of this layout; None for any other."""

    def of_a_part(self, name: str) -> bool:
        """Return whether a part may have a file of that name."""
        return name == DONE or self.is_part_file(name)

    def is_file(self, name: Any) -> bool:
        """Return whether a name of a manifest is that of a file of this layout."""
        if not isinstance(name, str):
            return False
        parts = name.split("/")
        of_a_part = len(parts) == 3 and parts[0] == self.group and is_name(parts[1]) and self.of_a_part(parts[2])
        return of_a_part or name in self.files

    def manifest(self, folder: Path) -> dict[str, Any] | None:
        """Return the manifest of a folder; None where there is none, or it is of something else."""
        manifest = read_json(folder / MANIFEST)
        if manifest is None or not isinstance(manifest.get("recsys"), str):
            return None
        files, parts = manifest.get("files"), manifest.get(self.group)
        if not isinstance(files, list) or not isinstance(parts, list):
            return None
        return manifest if all(map(self.is_file, files)) and all(map(is_name, parts)) else None

    def listed(self, folder: Path) -> list[str] | None:
        """Return the files that the manifest of a folder lists; None where it is not of this layout."""
        if not (folder / MANIFEST).exists():
            return self.without_manifest(folder)
        return (self.manifest(folder) or {}).get("files")

    def names_of_parts(self, folder: Path) -> list[str]:
        """Return the parts that a folder has, or was to get."""
        begun = (self.manifest(folder) or {}).get(self.group, [])
        listed = (name.split("/")[1] for name in self.listed(folder) or [] if "/" in name)
        return list(dict.fromkeys([*begun, *listed]))

    @property
    def kind(self) -> Kind:
        """Whose such a folder is: all of it must have been written by its job."""

        def listed(folder: Path) -> list[str] | None:
            files, lock = self.listed(folder), folder / _LOCK
            begun = [path.name for name in (*self.files, MANIFEST) for path in leftovers(folder / name)]
            begun += [_LOCK] if lock.is_file() and is_lock(lock) else []
            if files is None:
                return begun or None
            for name in self.names_of_parts(folder):
                for ending in ("", OLD):
                    for left in leftovers(folder / self.group / name, folder=True, ending=ending):
                        own = sorted(path.name for path in left.iterdir() if self.of_a_part(path.name))
                        begun += [f"{self.group}/{left.name}/{file}" for file in own]
            return [*files, *begun, MANIFEST]

        return Kind(self.what, OutputError, MANIFEST, listed, folders=(self.group,))


@dataclass(frozen=True)
class PartsFolder:
    """A folder of a layout, in which finished parts stay.

    `_manifest.json` lists what was written, under `files`, and the parts of the last job, under the name of their
    group. It lists a file before that has its name, so that a kill leaves nothing that is not listed.
    """

    folder: Path
    """The folder itself, no link to it."""
    layout: Layout = field(repr=False)

    def check_early(self) -> None:
        """Refuse what `check` refuses, without holding the lock beyond the call."""
        try:
            self.check()
        except (ConfigError, FileNotFoundError):  # or what was met is a job at work, which `locked` then says
            with self.locked():
                self.check()

    def check(self) -> None:
        """Refuse, by an OutputError, a folder that holds what no job of this layout has written."""
        self.layout.kind.check(self.folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other jobs away for the block; a folder in which nothing was written then goes again."""
        busy = f"another process is {self.layout.busy} in {self.folder}; wait for it, or choose another folder"
        new = not self.folder.exists()
        try:
            with locked(self.folder / _LOCK, busy=OutputError(busy)):
                yield
        finally:
            if new and self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    def begin(self, parts: Sequence[str], version: str) -> None:
        """Remove what a killed job left half written, and name the parts of this one in the manifest."""
        self.check()
        for name in (*self.layout.files, MANIFEST):
            remove_dead_files(self.folder / name)
        for name in {*parts, *self.layout.names_of_parts(self.folder)}:
            if (self.folder / self.layout.group).is_dir():
                recover(self.part(name), self._kind_of(name))
        files = self.layout.listed(self.folder) or []
        self._write({"recsys": version, self.layout.group: list(parts), "files": files})

    def part(self, name: str) -> Path:
        """Return the folder of a part."""
        return self.folder / self.layout.group / name

    def finished(self, name: str) -> dict[str, Any] | None:
        """Return what `done.json` of a part holds; None where it is not finished, or damaged."""
        facts = read_json(self.part(name) / DONE)
        return facts if facts is not None and self.layout.is_done(facts) and self._is_whole(name, facts) else None

    @contextmanager
    def writing(self, name: str, facts: dict[str, Any]) -> Iterator[Path]:
        """Give a folder to fill, which becomes that of a part at the end of the block, with `done.json` of `facts`.

        Its tables, which are Parquet, get checksums there.
        """
        with replacing_folder(self.part(name), durable=True, kind=self._kind_of(name)) as new:
            yield new
            sums = {file.name: sha256_of_file(file) for file in sorted(new.glob("*.parquet"))}
            (new / DONE).write_text(json.dumps({**facts, "sha256": sums}, indent=1) + "\n", encoding="utf-8")
            self._list(f"{self.layout.group}/{name}/{file.name}" for file in sorted(new.iterdir()))

    @contextmanager
    def file(self, name: str) -> Iterator[Path]:
        """Give a file to write, which becomes one of the folder's own at the end of the block."""
        with replacing(self.folder / name, durable=True) as new:
            yield new
            self._list([name])

    def _is_whole(self, name: str, facts: Mapping[str, Any]) -> bool:
        """Return whether the tables of a part are as they were written; version 0.2.0 wrote no checksums."""
        sums = facts.get("sha256", {})
        if not isinstance(sums, dict) or not all(map(self.layout.of_a_part, sums)):
            return False
        files = [self.part(name) / file for file in {*self.layout.needed, *sums}]
        return all(
            file.is_file() and sha256_of_file(file) == sums.get(file.name, sha256_of_file(file)) for file in files
        )

    def _kind_of(self, name: str) -> Kind:
        """Return whose the folder of a part is: what the manifest lists below it."""
        below = f"{self.layout.group}/{name}/"

        def listed(_: Path) -> list[str]:
            names = [path.removeprefix(below) for path in self.layout.listed(self.folder) or []]
            return sorted((path for path in names if "/" not in path and self.layout.of_a_part(path)), key=DONE.__eq__)

        return Kind(self.layout.part, OutputError, DONE, listed, self.layout.of_a_part)

    def _list(self, names: Iterable[str]) -> None:
        """Add files to the manifest that are about to get their names, where nobody else has put any."""
        self.check()
        manifest = read_json(self.folder / MANIFEST) or {}
        files = list(dict.fromkeys([*(self.layout.listed(self.folder) or []), *names]))
        self._write({**manifest, "files": files})

    def _write(self, manifest: Mapping[str, Any]) -> None:
        write_text(self.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n", durable=True)


def is_name(name: Any) -> bool:
    """Return whether a part of that name can have a folder."""
    plain = isinstance(name, str) and name[:1] not in ("", ".") and Path(name).name == name
    return plain and not set(name) & set("\\\0")

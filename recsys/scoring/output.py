"""The output folder of a scoring job: Parquet parts with a manifest, complete or absent, resumed part by part."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.claims import leftovers
from recsys.errors import ScoringError
from recsys.files import MANIFEST, locked, read_json, replace_folder, sha256_of_file, sync, sync_folder, write_text
from recsys.ids import IdMap
from recsys.outputs import Kind, recover, remove_files
from recsys.workspace import as_path, output_folder

_JOB, _JOURNAL = ".job.json", ".parts.jsonl"
_PART, _HALF = re.compile(r"part-[0-9]{5,}\.parquet"), re.compile(r"\.part-[0-9]{5,}\.parquet")
"""Names of a part, and of one that is being written."""
_OF_SPARK = re.compile(
    r"(.*/)?(\.?part-[0-9]{5,}-[0-9a-f-]{36}[-.\w]*\.parquet(\.crc)?|_SUCCESS|\._SUCCESS\.crc)", re.DOTALL
)
"""Names of the files that Spark writes beside the output until they are parts."""

Identity = Mapping[str, Any]
"""What tells one job from another: JSON values."""
Entry = dict[str, Any]
"""A finished part as journal and manifest hold it: `file, users, rows, sha256`."""


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder of recommendations; None where there is none that a job of ours has written."""
    manifest = read_json(folder / MANIFEST)
    kinds = {"parts": list, "rows": int, "users": int, "identity": dict, "started": str, "finished": str}
    if manifest is None or not all(isinstance(manifest.get(key), kind) for key, kind in kinds.items()):
        return None
    return manifest if all(map(_is_entry, manifest["parts"])) else None


def _listed(folder: Path) -> list[str] | None:
    """Return the files of a folder of recommendations, the manifest last; None without a manifest."""
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    # A job of version 0.2.0 that was killed in its last step left its own files there.
    job = [] if _read_job(folder) is None else [_JOURNAL, _JOB]
    return [*(part["file"] for part in manifest["parts"]), *job, MANIFEST]


def _gathered(folder: Path) -> list[str] | None:
    """Return the files of a folder in which a job gathers its parts, that of the job last; None without a job."""
    names = [path.name for file in (MANIFEST, _JOB, _JOURNAL) for path in leftovers(folder / file)]
    names += _listed(folder) or []
    if _read_job(folder) is not None:  # else it was killed when it began, or when all was written
        halves = [path.name for path in sorted(folder.iterdir()) if _HALF.fullmatch(path.name)]
        names += [*(entry["file"] for entry in _read_journal(folder)), *halves, _JOURNAL, _JOB]
    return names or None


RECOMMENDATIONS: Final = Kind(
    "a scoring output", ScoringError, MANIFEST, _listed, unfinished=lambda name: _OF_SPARK.fullmatch(name) is not None
)
"""The folder that a scoring job leaves."""
_GATHERING: Final = Kind("what an interrupted scoring job left", ScoringError, _JOB, _gathered)


@dataclass(frozen=True)
class OutputFolder:
    """A folder that appears by one rename; until then parts gather in `.<name>.partial` beside it, with a journal."""

    named: Path
    """As it was asked for; it may be a link to the folder."""
    target: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", output_folder(self.named, ScoringError))

    @property
    def partial(self) -> Path:
        """The folder in which parts gather."""
        return self.target.with_name(f".{self.target.name}.partial")

    def check_early(self) -> None:
        """Refuse what `check` refuses, or that another job is writing, without holding the lock beyond the call."""
        try:
            self.check()
        except (ScoringError, FileNotFoundError):  # or what was met is a job at work, which `locked` then says
            with self.locked():
                self.check()

    def check(self) -> None:
        """Refuse to replace what no scoring job has written, by a ScoringError; finish what a killed job was doing."""
        recover(self.target, RECOMMENDATIONS)
        RECOMMENDATIONS.check(self.target)
        _GATHERING.check(self.partial)

    def locked(self) -> AbstractContextManager[None]:
        """Keep other jobs away for the block; a ScoringError where one writes the same output."""
        busy = ScoringError(f"another job is writing {self.target}; wait for it to end")
        return locked(self.target.with_name(f".{self.target.name}.lock"), busy=busy)

    def manifest(self, identity: Identity) -> dict[str, Any] | None:
        """Return the manifest of a complete output of the same job, undamaged; None where there is none.

        What killed jobs left in it, and beside it, goes then.
        """
        manifest = read_manifest(self.target)
        if manifest is None or manifest["identity"] != identity:
            return None
        if not all(_is_whole(self.target, part) for part in manifest["parts"]):
            return None
        written = {MANIFEST, *(part["file"] for part in manifest["parts"])}
        remove_files(self.target, [name for name in RECOMMENDATIONS.files(self.target) if name not in written])
        if self.partial.exists():
            remove_files(self.partial, _GATHERING.files(self.partial))
            self.partial.rmdir()
        return manifest

    def begin(self, identity: Identity, *, resume: bool) -> dict[str, Entry]:
        """Return the undamaged parts that an interrupted run of the same job finished; without any, start over."""
        self.partial.mkdir(parents=True, exist_ok=True)
        job, entries = _read_job(self.partial), _read_journal(self.partial)
        whole = read_manifest(self.partial)
        if whole is not None:  # it was killed in its last steps, in which its own files go
            job, entries = {name: whole[name] for name in ("identity", "started")}, [*entries, *whole["parts"]]
        finished = {}
        if resume and job is not None and job["identity"] == identity:
            finished = {entry["file"]: entry for entry in entries if _is_whole(self.partial, entry)}
        kept = {*finished, _JOB, _JOURNAL, MANIFEST} if finished else set()
        names = _GATHERING.files(self.partial)
        remove_files(self.partial, [name for name in names if name not in kept])
        if not finished or job is None:
            job = {"identity": identity, "started": _now()}
        # In this order: at every moment either the journal or a manifest lists each part that is there.
        write_text(self.partial / _JOB, json.dumps(job), durable=True)
        journal = "".join(f"{json.dumps(entry)}\n" for entry in finished.values())
        write_text(self.partial / _JOURNAL, journal, durable=True)
        remove_files(self.partial, [MANIFEST] if MANIFEST in names else [])
        return finished

    def write_part(self, name: str, table: pa.Table, users: int) -> Entry:
        """Write a part, its entry in the journal, and then give it its name: a part without an entry is not ours."""
        half = self.partial / f".{name}"
        self._check_new(name)
        pq.write_table(table, half, compression="zstd")
        return self.take_part(name, half, table.num_rows, users)

    def take_part(self, name: str, file: Path, rows: int, users: int) -> Entry:
        """Make a file of the same file system a part: its entry in the journal first, then its name."""
        part = self._check_new(name)
        entry = {"file": name, "users": users, "rows": rows, "sha256": sha256_of_file(file)}
        with (self.partial / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(entry) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        file.replace(part)
        return entry

    def _check_new(self, name: str) -> Path:
        """Return the path of a part that is not there yet; a ScoringError where something is."""
        part = self.partial / name
        if os.path.lexists(part):
            raise ScoringError(f"{part} turned up while the job was running and is not part of it; move it elsewhere")
        return part

    def publish(self, facts: Mapping[str, Any], parts: Mapping[str, Entry], identity: Identity) -> dict[str, Any]:
        """Write the manifest, put the parts in place of the target, and return the manifest.

        All is on disk before the manifest is, and the folder is in its place before this returns.
        """
        self.check()
        job = _read_job(self.partial)
        assert job is not None  # `begin` has written it
        manifest = {
            **facts,
            "rows": sum(part["rows"] for part in parts.values()),
            "parts": [parts[name] for name in sorted(parts)],
            "started": job["started"],
            "finished": _now(),
            "recsys": identity["recsys"],
            "identity": identity,
        }
        sync_folder(self.partial)
        write_text(self.partial / MANIFEST, json.dumps(manifest, indent=2), durable=True)
        kept = {*parts, MANIFEST}
        remove_files(self.partial, [name for name in _GATHERING.files(self.partial) if name not in kept])
        replace_folder(self.partial, self.target, RECOMMENDATIONS)
        sync(self.target.parent)
        return manifest


def check_output(output: str | Path) -> None:
    """Refuse, by a ScoringError, an output that `score` would refuse: for jobs that have work to do before."""
    OutputFolder(as_path(output).absolute()).check_early()


def arrow_ids(ids: IdMap, what: str) -> pa.Array:
    """Return ids as Parquet stores them; a ScoringError where they would not be read back as they are."""
    reason = "they come back as something else"
    try:
        if ids.kind == "int":
            return pa.array(ids.ids())
        values = list(ids)
        array = pa.array(values)
        if ids.kind == "str" or list(array.to_pandas()) == values:
            return array
    except (pa.ArrowException, ValueError) as error:  # Arrow's own, or numpy's where a list came back for a tuple
        reason = str(error)
    raise ScoringError(
        f"{what} ids of type {type(next(iter(ids))).__name__} cannot be stored in parquet: {reason}; "
        "use integers or strings, or recommend_frame, which keeps them in memory"
    )


def _read_job(folder: Path) -> dict[str, Any] | None:
    """Return what the job that gathers its parts in a folder is; None where no job of ours does."""
    job = read_json(folder / _JOB)
    own = job is not None and isinstance(job.get("identity"), dict) and isinstance(job.get("started"), str)
    return job if own else None


def _read_journal(folder: Path) -> list[Entry]:
    """Return the entries of a journal, without lines that are empty, damaged, or torn when the job was killed."""
    entries = []
    with suppress(OSError):
        for line in (folder / _JOURNAL).read_bytes().splitlines():
            with suppress(ValueError, RecursionError):
                if _is_entry(entry := json.loads(line)):
                    entries.append(entry)
    return entries


def _is_entry(entry: Any) -> bool:
    """Return whether a JSON value describes a part, by a name that does not lead out of the folder."""
    kinds = {"file": str, "users": int, "rows": int, "sha256": str}
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), kind) for key, kind in kinds.items()):
        return False
    return _PART.fullmatch(entry["file"]) is not None


def _is_whole(folder: Path, part: Entry) -> bool:
    file = folder / part["file"]
    return not file.is_symlink() and file.is_file() and sha256_of_file(file) == part["sha256"]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""The output folder of a scoring job: Parquet parts with a manifest, complete or absent, resumed part by part."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys.errors import ScoringError
from recsys.files import MANIFEST, locked, read_json, replace_folder, sha256_of_file
from recsys.ids import IdMap

"""Readers of a folder of Parquet files skip names that begin with an underscore."""
_JOB, _JOURNAL = ".job.json", ".parts.jsonl"

Identity = Mapping[str, Any]
"""What tells one job from another: JSON values."""
Entry = dict[str, Any]
"""A finished part as journal and manifest hold it: `file, users, rows, sha256`."""


@dataclass(frozen=True)
class OutputFolder:
    """A folder that appears by one rename; until then parts gather in `.<name>.partial` beside it, with a journal."""

    target: Path

    @property
    def partial(self) -> Path:
        """The folder in which parts gather."""
        return self.target.with_name(f".{self.target.name}.partial")

    def check(self) -> None:
        """Refuse to replace a folder of something else, by a ScoringError."""
        if self.target.exists() and not (self.target / MANIFEST).is_file():
            raise ScoringError(f"{self.target} exists and is not a scoring output; choose another folder or remove it")

    def locked(self) -> AbstractContextManager[None]:
        """Keep other jobs away for the block; a ScoringError where one writes the same output."""
        busy = ScoringError(f"another job is writing {self.target}; wait for it to end")
        return locked(self.target.with_name(f".{self.target.name}.lock"), busy=busy)

    def manifest(self, identity: Identity) -> dict[str, Any] | None:
        """Return the manifest of a complete output of the same job, undamaged; None where there is none."""
        manifest = read_json(self.target / MANIFEST)
        if manifest is None or manifest.get("identity") != identity:
            return None
        return manifest if all(_is_whole(self.target, part) for part in manifest["parts"]) else None

    def begin(self, identity: Identity, *, resume: bool) -> dict[str, Entry]:
        """Return the undamaged parts that an interrupted run of the same job finished; without any, start over."""
        job, journal = read_json(self.partial / _JOB), self.partial / _JOURNAL
        finished = {}
        if resume and job is not None and job.get("identity") == identity and journal.is_file():
            for line in journal.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError):  # a line that is empty, or torn when the job was killed
                    entry = json.loads(line)
                    if _is_whole(self.partial, entry):
                        finished[entry["file"]] = entry
        if not finished:
            shutil.rmtree(self.partial, ignore_errors=True)
            self.partial.mkdir(parents=True)
            (self.partial / _JOB).write_text(json.dumps({"identity": identity, "started": _now()}))
        return finished

    def write_part(self, name: str, table: pa.Table, users: int) -> Entry:
        """Write a part and then its entry in the journal."""
        new = self.partial / f".{name}"
        pq.write_table(table, new, compression="zstd")
        entry = {"file": name, "users": users, "rows": table.num_rows, "sha256": sha256_of_file(new)}
        new.replace(self.partial / name)
        with (self.partial / _JOURNAL).open("a", encoding="utf-8") as journal:
            journal.write("\n" + json.dumps(entry))  # on a line of its own even if a kill tore the last one
        return entry

    def publish(self, facts: Mapping[str, Any], parts: Mapping[str, Entry], identity: Identity) -> dict[str, Any]:
        """Write the manifest, put the parts in place of the target, and return the manifest."""
        job = read_json(self.partial / _JOB)
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
        (self.partial / MANIFEST).write_text(json.dumps(manifest, indent=2))
        replace_folder(self.partial, self.target)
        for name in (_JOB, _JOURNAL):  # after the rename: a job that dies before it resumes from them
            (self.target / name).unlink()
        return manifest


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


def _is_whole(folder: Path, part: Entry) -> bool:
    file = folder / part["file"]
    return file.is_file() and sha256_of_file(file) == str(part["sha256"])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

"""What a night keeps on disk until it has ended, so that one that was killed goes on as if it had not been."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa

from recsys import tracking
from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.files import MANIFEST, read_json, replacing, sha256_of_file, write_text
from recsys.jobs.common import Versions
from recsys.scoring.output import read_manifest
from recsys.workspace import Workspace

_COMPARED_USERS = 5_000
"""Number of users whose lists are compared with the previous night's."""


@dataclass(frozen=True)
class Files:
    """What a night keeps in `mlruns/nightly`: its summary, and, until that is written, what it found at its beginning.

    A night that was killed goes on as if it had not been, and so must not take what it did itself for what it found.
    """

    summary: Path
    began: Path
    """JSON: `identity` of the night, and what it found at its beginning: `versions` and `holder`; and when it began to
    score: `output`, a digest of the output's manifest, and whether it held any `lists`; and how the `night` ended."""
    lists: Path
    """Lists of some users in the output that the night replaces."""
    run: Path
    """By which the night's MLflow run is resumed."""

    @classmethod
    def of(cls, workspace: Workspace, name: str) -> Files:
        """Return the files of the nights of a registered model."""
        folder = workspace.mlruns / "nightly"
        summary, began, lists = (
            folder / f"{quote(name, safe='')}.{suffix}" for suffix in ("json", "began.json", "lists.parquet")
        )
        return cls(summary, began, lists, tracking.resume_file(workspace, "night", name))

    def begin(self, identity: str, versions: Versions) -> dict[str, Any]:
        """Return what the same night found when it began first; if it begins now, what it finds."""
        found = read_json(self.began)
        if found is not None and found.get("identity") == identity:
            return found
        self.forget()
        found = {"identity": identity, "versions": list(versions.numbers), "holder": versions.holder}
        self.note(found)
        return found

    def note(self, found: Mapping[str, Any]) -> None:
        """Keep what the night found."""
        write_text(self.began, json.dumps(found), durable=True)

    def replaced_lists(self, output: Path, found: dict[str, Any]) -> pd.DataFrame | None:
        """Return some of the lists that the output held before the night; None without any."""
        if "lists" not in found:
            previous = previous_lists(output)
            if previous is not None:
                with replacing(self.lists, durable=True) as new:
                    previous.to_parquet(new, index=False)
            found["lists"], found["output"] = previous is not None, digest_of(output)
            self.note(found)
        try:
            return pd.read_parquet(self.lists) if found["lists"] else None
        except (OSError, ValueError):
            return None

    def end(self, found: Mapping[str, Any], night: Mapping[str, Any]) -> None:
        """Remove what is of no more use; until the last file goes, the same night only tells again how it ended."""
        self.note({**found, "night": dict(night)})
        self.forget()

    def forget(self) -> None:
        """Remove what a night keeps, so that the next one finds things anew."""
        for file in (self.run, self.lists, self.began):
            file.unlink(missing_ok=True)


def digest_of(output: Path) -> str | None:
    """Return a digest that tells one output from another; None where there is none."""
    manifest = output / MANIFEST
    return sha256_of_file(manifest) if manifest.is_file() else None


def previous_lists(output: Path) -> pd.DataFrame | None:
    """Return the lists of some users in an existing output, to measure how the new ones differ; None without one."""
    manifest = read_manifest(output)
    if manifest is None or not manifest["parts"]:
        return None
    part = manifest["parts"][0]
    try:
        if sha256_of_file(output / part["file"]) != part["sha256"]:
            return None
        frame = pd.read_parquet(output / part["file"], columns=[USER, ITEM, SCORE, RANK])
    except (OSError, ValueError, KeyError, pa.ArrowException):  # damaged; scoring replaces it
        return None
    return frame[frame[USER].isin(frame[USER].unique()[:_COMPARED_USERS])]

"""Batch scoring in one process: users in blocks, one Parquet part per block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from tqdm import tqdm

from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.errors import ConfigError
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.scoring.kernel import Kernel, Rows, blocks, choose_rows
from recsys.scoring.output import MANIFEST, Entry, Identity, OutputFolder, arrow_ids, arrow_table

__all__ = ["BATCH_SIZE", "MANIFEST", "ScoringResult", "recommend_frame", "score"]

BATCH_SIZE = 16_384
"""Users of one part."""


@dataclass(frozen=True)
class ScoringResult:
    """The outcome of a scoring job."""

    output: Path
    """Folder of `part-*.parquet` and `_manifest.json`."""
    users: int
    """Users scored."""
    rows: int
    """Recommendations written."""
    parts: int
    resumed_parts: int
    """Parts that an interrupted run had finished."""
    already_complete: bool
    """Whether the output was there already, made from the same model, data, users and options."""


def score(
    model: Recommender,
    histories: Interactions,
    output: str | Path,
    *,
    n: int = 10,
    users: Sequence[Hashable] | None = None,
    exclude_seen: bool = True,
    on_unknown: Literal["raise", "drop"] = "raise",
    batch_size: int = BATCH_SIZE,
    seen: Interactions | None = None,
    data_id: str | None = None,
    model_uri: str | None = None,
    asked_uri: str | None = None,
    show_progress: bool = False,
    overwrite: bool = False,
) -> ScoringResult:
    """Write the `n` best items of each user as a folder of Parquet parts with a manifest, `_manifest.json`.

    Rows hold `user_id, item_id, score, rank` with external ids, score float32 and rank int32 from 1, by user and rank;
    a user with fewer than `n` candidates gets fewer rows. The lists are those of `model.recommend`.

    The output appears by one rename when all parts are written. An interrupted job continues from its finished parts
    if it is called with the same model, data, users, options and version of this package, and starts over otherwise.
    A complete output of the same job is left as it is; one of another job is replaced when the new one is complete.
    Beyond the model and the histories, memory holds one block of `batch_size` users.

    Args:
        histories: of the users to score; items that the model does not know are left out. Models with learned user
            vectors use those of the users they were trained on, and work from the history of any other.
        output: folder to write.
        users: external ids, in the order to write; all users of `histories` by default.
        exclude_seen: never recommend an item of the user's history.
        on_unknown: `raise` or `drop` for `users` that `histories` does not hold.
        batch_size: users of one part.
        seen: all that these users have seen, where `histories` holds only a part of it, such as what they liked; it is
            filtered in place of the histories.
        data_id: a digest that stands for histories and `seen`; by default their fingerprints.
        model_uri: where the model comes from, for the manifest.
        asked_uri: the address by which it was requested, such as an alias, for the manifest.
        overwrite: start over even if this job is complete or was interrupted.

    Raises:
        NotFittedError: the model is not fitted.
        UnknownIdError: a user is unknown and `on_unknown` is `raise`.
        ConfigError: an option is out of range.
        DataError: `seen` lacks a user, or `users` names one twice.
        ScoringError: the model does not know its items, Parquet cannot store the ids, nobody is left to score, another
            job writes the same output, or `output` is a folder of something else.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    kernel = Kernel.of(model, histories, seen, n, exclude_seen)
    rows = choose_rows(histories, users, on_unknown)
    job = _Job(kernel, rows, batch_size, OutputFolder(Path(output).absolute()), show_progress)
    data = (data_id, None) if data_id else (histories.fingerprint(), None if seen is None else seen.fingerprint())
    return job.run(data, {"model_uri": model_uri, "asked_uri": asked_uri}, overwrite=overwrite)


def recommend_frame(
    model: Recommender,
    histories: Interactions,
    users: Sequence[Hashable] | None = None,
    n: int = 10,
    *,
    exclude_seen: bool = True,
    on_unknown: Literal["raise", "drop"] = "raise",
    seen: Interactions | None = None,
) -> pd.DataFrame:
    """Return what `score` writes as one frame in memory: `user_id, item_id, score, rank`, ids of any kind.

    Args:
        histories: of the users.
        users: external ids, in the order to return; all users of `histories` by default.
        exclude_seen: never recommend an item of the user's history.
        on_unknown: `raise` or `drop` for `users` that `histories` does not hold.
        seen: as in `score`.

    Raises:
        NotFittedError: the model is not fitted.
        UnknownIdError: a user is unknown and `on_unknown` is `raise`.
        ConfigError: an option is out of range.
        DataError: `seen` lacks a user, or `users` names one twice.
        ScoringError: the model does not know its items, or nobody is left.
    """
    kernel = Kernel.of(model, histories, seen, n, exclude_seen)
    lists = [kernel.lists(block) for block in blocks(choose_rows(histories, users, on_unknown), BATCH_SIZE)]
    user, item, scores, ranks = (np.concatenate(arrays) for arrays in zip(*lists, strict=True))
    return pd.DataFrame({USER: kernel.users.ids(user), ITEM: kernel.items.ids(item), SCORE: scores, RANK: ranks})


@dataclass(frozen=True, eq=False)
class _Job:
    """What to score, and where it goes."""

    kernel: Kernel
    rows: Rows
    batch_size: int
    folder: OutputFolder
    show_progress: bool

    def run(self, data: tuple[str, str | None], origin: dict[str, Any], *, overwrite: bool) -> ScoringResult:
        """Write the output unless it is complete; `data` holds digests of histories and `seen`."""
        ids = arrow_ids(self.kernel.users, "user"), arrow_ids(self.kernel.items, "item")
        self.folder.check()
        identity = self._identity(data)
        with self.folder.locked():
            manifest = None if overwrite else self.folder.manifest(identity)
            if manifest is not None:
                return self._result(manifest, already_complete=True)
            parts = self.folder.begin(identity, resume=not overwrite)
            resumed_parts = len(parts)
            self._write_parts(parts, *ids)
            manifest = self.folder.publish({**origin, **self._facts()}, parts, identity)
            return self._result(manifest, resumed_parts=resumed_parts)

    def _identity(self, data: tuple[str, str | None]) -> Identity:
        return {
            "model": _model_checksum(self.kernel.model),
            "data": data[0],
            "seen": data[1],
            "users": hashlib.sha256(self.rows.tobytes()).hexdigest(),
            "n": self.kernel.n,
            "exclude_seen": self.kernel.exclude_seen,
            "batch_size": self.batch_size,
            "recsys": _version(),
        }

    def _facts(self) -> dict[str, Any]:
        return {
            "run_id": dict(self.kernel.model.about_).get("run_id"),
            "model": type(self.kernel.model).__name__,
            "n": self.kernel.n,
            "exclude_seen": self.kernel.exclude_seen,
            "users": len(self.rows),
        }

    def _write_parts(self, parts: dict[str, Entry], user_ids: Any, item_ids: Any) -> None:
        """Write the parts that are missing in `parts`, and add them there."""
        with tqdm(
            total=len(self.rows), unit="user", unit_scale=True, desc="score", disable=not self.show_progress
        ) as bar:
            for number, block in enumerate(blocks(self.rows, self.batch_size)):
                name = f"part-{number:05d}.parquet"
                if name not in parts:
                    table = arrow_table(self.kernel.lists(block), user_ids, item_ids)
                    parts[name] = self.folder.write_part(name, table, len(block))
                bar.update(len(block))

    def _result(
        self, manifest: dict[str, Any], *, resumed_parts: int = 0, already_complete: bool = False
    ) -> ScoringResult:
        return ScoringResult(
            output=self.folder.target,
            users=manifest["users"],
            rows=manifest["rows"],
            parts=len(manifest["parts"]),
            resumed_parts=resumed_parts,
            already_complete=already_complete,
        )


def _model_checksum(model: Recommender) -> str:
    """Return a SHA-256 of all that decides what the model recommends, the same before and after saving."""
    digest = hashlib.sha256()
    params = {name: value for name, value in model.params().items() if name != "device"}
    described = {"model": type(model).__name__, "params": params, "state": model._state()}
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, array in sorted({"popularity": model.popularity_, **model._arrays()}.items()):
        digest.update(f"|{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data)
    for ids in (model.users_, model.items_):
        values = ids.ids() if ids is not None else np.empty(0)
        for start in range(0, len(values), BATCH_SIZE):  # in slices, since text takes several times the memory of ids
            digest.update("\n".join(map(repr, values[start : start + BATCH_SIZE].tolist())).encode() + b"\n")
        digest.update(b"|")
    return digest.hexdigest()


def _version() -> str:
    try:
        return metadata.version("recsys")
    except metadata.PackageNotFoundError:
        return "not installed"

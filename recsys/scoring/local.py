"""Batch scoring in one process: users in blocks, Parquet parts, and an output that is complete or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse as sp
from tqdm import tqdm

from recsys.columns import ITEM, RANK, SCORE, USER
from recsys.errors import ConfigError, DataError, ScoringError
from recsys.files import locked, read_json, replace_folder, sha256_of_file
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.ranking import Ids, Scores

MANIFEST = "_manifest.json"
"""Readers of a folder of Parquet files skip names that begin with an underscore."""
BATCH_SIZE = 16_384
"""Users of one part."""
_JOB, _DONE = ".job.json", ".parts.jsonl"


@dataclass(frozen=True)
class ScoringResult:
    """What a scoring job left behind."""

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

    Parts gather in `.<name>.partial` beside the output, which appears by one rename when all are there. A job that died
    goes on from its finished parts if it is called with the same model, data, users, options and version of this
    package, and starts over otherwise. An output of the same job is left as it is; one of another job is replaced when
    the new one is whole. Beyond the model and the histories, memory holds one block of `batch_size` users.

    Args:
        histories: of the users to score; items that the model does not know are left out. Models with learned user
            vectors use those of the users they were trained on, and work from the history of any other.
        output: folder to write.
        users: external ids, in the order to write; all users of `histories` by default.
        exclude_seen: never recommend an item of the user's history.
        on_unknown: `raise` or `drop` for `users` that `histories` does not hold.
        batch_size: users of one part.
        seen: all that these users have met, where `histories` holds only a part of it, such as what they liked; it is
            filtered in place of the histories.
        data_id: a digest that stands for histories and `seen`, where the caller has one; by default their fingerprints.
        model_uri: where the model comes from, for the manifest.
        asked_uri: the address by which it was found, such as an alias, for the manifest.
        overwrite: start over even if this job is already complete, or in part.

    Raises:
        NotFittedError: the model is not fitted.
        UnknownIdError: a user is unknown and `on_unknown` is `raise`.
        ConfigError: an option is out of range.
        DataError: `seen` lacks a user.
        ScoringError: the model does not know its items, ids are of a kind that parquet does not give back as it was,
            nobody is left to score, another job writes the same output, or something that is not a scoring output is in
            its place.
    """
    target = Path(output).absolute()
    work = _Work.prepare(model, histories, seen, n, users, exclude_seen, on_unknown, batch_size)
    user_ids, item_ids = _arrow(work.users, "user"), _arrow(work.items, "item")
    if target.exists() and not (target / MANIFEST).is_file():
        raise ScoringError(f"{target} exists and is not a scoring output; choose another folder or remove it")
    identity = {
        "model": _model_checksum(model),
        "data": data_id or histories.fingerprint(),
        "seen": None if seen is None or data_id else seen.fingerprint(),
        "users": hashlib.sha256(work.rows.tobytes()).hexdigest(),
        "n": n,
        "exclude_seen": exclude_seen,
        "batch_size": batch_size,
        "recsys": _version(),
    }
    try:
        with locked(target.with_name(f".{target.name}.lock"), wait=False):
            manifest = None if overwrite else _complete(target, identity)
            if manifest is not None:
                return _result(target, manifest, already_complete=True)
            partial = target.with_name(f".{target.name}.partial")
            done = {} if overwrite else _resume(partial, identity)
            if not done:
                _start(partial, identity)
            resumed = len(done)
            _write_parts(work, user_ids, item_ids, partial, done, show_progress)
            started = json.loads((partial / _JOB).read_text())["started"]
            manifest = {
                "model_uri": model_uri,
                "asked_uri": asked_uri,
                "run_id": dict(model.about_).get("run_id"),
                "model": type(model).__name__,
                "n": n,
                "exclude_seen": exclude_seen,
                "users": len(work.rows),
                "rows": sum(part["rows"] for part in done.values()),
                "parts": [done[name] for name in sorted(done)],
                "started": started,
                "finished": _now(),
                "recsys": _version(),
                "identity": identity,
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2))
            replace_folder(partial, target)
            for name in (_JOB, _DONE):  # not sooner: a job that dies before the rename goes on from them
                (target / name).unlink()
            return _result(target, manifest, resumed_parts=resumed)
    except BlockingIOError:
        raise ScoringError(f"another job is writing {target}; wait for it to end") from None


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
        DataError: `seen` lacks a user.
        ScoringError: the model does not know its items, or nobody is left.
    """
    work = _Work.prepare(model, histories, seen, n, users, exclude_seen, on_unknown, BATCH_SIZE)
    found = [work.lists(block) for block in work.blocks()]
    user, item, scores, ranks = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pd.DataFrame({USER: work.users.ids(user), ITEM: work.items.ids(item), SCORE: scores, RANK: ranks})


@dataclass(frozen=True, eq=False)
class _Work:
    """Users to score, and what turns a block of them into lists."""

    model: Recommender
    histories: sp.csr_matrix
    """(n_users, model items): every user of the data."""
    seen: sp.csr_matrix | None
    """(n_users, model items): what to filter in place of the histories."""
    rows: npt.NDArray[np.int32]
    """Rows of `histories` to score, in order."""
    trained: npt.NDArray[np.int32]
    """(n_users,) index of each user among the training users, -1 for others."""
    users: IdMap
    """Users of the data."""
    items: IdMap
    """Items of the model."""
    n: int
    exclude_seen: bool
    batch_size: int

    @classmethod
    def prepare(
        cls,
        model: Recommender,
        histories: Interactions,
        seen: Interactions | None,
        n: int,
        users: Sequence[Hashable] | None,
        exclude_seen: bool,
        on_unknown: Literal["raise", "drop"],
        batch_size: int,
    ) -> _Work:
        model._check_fitted()
        if model.items_ is None or model.users_ is None:
            raise ScoringError(
                f"this {type(model).__name__} does not know its item ids; fit it on Interactions, not on a matrix"
            )
        if n < 1 or batch_size < 1:
            raise ConfigError(f"n and batch_size must be at least 1, got {n} and {batch_size}")
        if on_unknown not in ("raise", "drop"):
            raise ConfigError(f"on_unknown must be 'raise' or 'drop', got {on_unknown!r}")
        rows = np.arange(histories.shape[0], dtype=np.int32)
        if users is not None:
            rows = histories.users.codes(users, on_unknown=on_unknown)
            if len(np.unique(rows)) != len(rows):
                raise DataError(f"users must name each user once, got {len(rows) - len(np.unique(rows))} repeats")
        if not len(rows):
            raise ScoringError("there is nobody to score: the data hold none of the users")
        met = None
        if seen is not None:
            place = seen.users.codes(histories.users.ids(), on_unknown="mark")
            lacking = np.flatnonzero(place < 0)
            if len(lacking):
                first = list(histories.users.take(lacking[:3]))
                raise DataError(
                    f"seen must hold every user of the histories, {len(lacking)} are missing, such as {first}"
                )
            met = seen.histories(model.items_)[place]
        return cls(
            model=model,
            histories=histories.histories(model.items_),
            seen=met,
            rows=rows,
            trained=model.users_.codes(histories.users.ids(), on_unknown="mark"),
            users=histories.users,
            items=model.items_,
            n=n,
            exclude_seen=exclude_seen,
            batch_size=batch_size,
        )

    def blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.rows), self.batch_size):
            yield slice(start, min(start + self.batch_size, len(self.rows)))

    def lists(self, block: slice) -> tuple[npt.NDArray[np.int32], Ids, Scores, npt.NDArray[np.int32]]:
        """Return user codes, item codes, scores and ranks of the block's recommendations, one after the other."""
        rows = self.rows[block]
        ids, scores = self.model.recommend(
            self.trained[rows],
            self.histories[rows],
            N=self.n,
            filter_already_liked_items=self.exclude_seen,
            seen=None if self.seen is None else self.seen[rows],
        )
        found = ids >= 0
        ranks = np.broadcast_to(np.arange(1, ids.shape[1] + 1, dtype=np.int32), ids.shape)
        return np.repeat(rows, found.sum(axis=1)), ids[found], scores[found], ranks[found]


def _arrow(ids: IdMap, what: str) -> pa.Array:
    """Return the ids as parquet holds them.

    Raises:
        ScoringError: they would not come back as they are.
    """
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


def _write_parts(
    work: _Work,
    user_ids: pa.Array,
    item_ids: pa.Array,
    partial: Path,
    done: dict[str, dict[str, Any]],
    show_progress: bool,
) -> None:
    """Write what is not in `done`, and add it there."""
    with (
        tqdm(total=len(work.rows), unit="user", unit_scale=True, desc="score", disable=not show_progress) as bar,
        (partial / _DONE).open("a", encoding="utf-8") as journal,
    ):
        for number, block in enumerate(work.blocks()):
            name = f"part-{number:05d}.parquet"
            if name not in done:
                user, item, scores, ranks = work.lists(block)
                columns = (user_ids.take(pa.array(user)), item_ids.take(pa.array(item)), scores, ranks)
                table = pa.table(dict(zip((USER, ITEM, SCORE, RANK), columns, strict=True)))
                beside = partial / f".{name}"
                pq.write_table(table, beside, compression="zstd")
                entry = {
                    "file": name,
                    "users": block.stop - block.start,
                    "rows": table.num_rows,
                    "sha256": sha256_of_file(beside),
                }
                beside.replace(partial / name)
                journal.write("\n" + json.dumps(entry))  # on a line of its own even if the last one is torn
                journal.flush()
                done[name] = entry
            bar.update(block.stop - block.start)


def _start(partial: Path, identity: dict[str, Any]) -> None:
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / _JOB).write_text(json.dumps({"identity": identity, "started": _now()}))


def _resume(partial: Path, identity: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parts that an interrupted run of the same job finished; those damaged since are left out."""
    job = read_json(partial / _JOB)
    if job is None or job.get("identity") != identity or not (partial / _DONE).is_file():
        return {}
    done = {}
    for line in (partial / _DONE).read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # empty, or torn when the job died
        if _is_whole(partial, entry):
            done[entry["file"]] = entry
    return done


def _complete(target: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the manifest of a whole output of the same job."""
    manifest = read_json(target / MANIFEST)
    if manifest is None or manifest.get("identity") != identity:
        return None
    return manifest if all(_is_whole(target, part) for part in manifest["parts"]) else None


def _is_whole(folder: Path, part: dict[str, Any]) -> bool:
    file = folder / part["file"]
    return file.is_file() and sha256_of_file(file) == str(part["sha256"])


def _result(
    target: Path, manifest: dict[str, Any], *, resumed_parts: int = 0, already_complete: bool = False
) -> ScoringResult:
    return ScoringResult(
        output=target,
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
        for start in range(0, len(values), BATCH_SIZE):  # in slices, as text takes several times the memory of ids
            digest.update("\n".join(map(repr, values[start : start + BATCH_SIZE].tolist())).encode() + b"\n")
        digest.update(b"|")
    return digest.hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _version() -> str:
    try:
        return metadata.version("recsys")
    except metadata.PackageNotFoundError:
        return "not installed"

"""Batch scoring in one process: users in blocks, one Parquet part per block."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from tqdm import tqdm

from recsys.approximate import check_faiss, check_recall, item_table
from recsys.columns import ITEM, RANK, REASONS, SCORE, SOURCE, TITLE, USER
from recsys.errors import ConfigError, ScoringError, warn
from recsys.files import MANIFEST
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.params import check_count
from recsys.rules import BoundRules, Rules
from recsys.scoring.asked import Asked, bound_rules
from recsys.scoring.choosing import check_on_unknown, chosen, source_for
from recsys.scoring.kernel import Kernel, Lists, Rows, Source
from recsys.scoring.output import OutputFolder, arrow_ids
from recsys.scoring.reasons import check_reasons, reasons_of
from recsys.scoring.sources import sources_in
from recsys.shards import StoredIds
from recsys.workspace import as_path

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
    recall: float = 1.0
    """Share of the exact lists in those that were written, as measured on some of the users."""


def score(
    model: Recommender,
    histories: Interactions,
    output: str | Path,
    *,
    n: int = 10,
    users: Sequence[Hashable] | None = None,
    exclude_seen: bool = True,
    recall: float | None = None,
    reasons: int | None = None,
    titles: bool = False,
    on_unknown: Literal["raise", "drop"] = "raise",
    batch_size: int = BATCH_SIZE,
    seen: Interactions | None = None,
    rules: Rules | BoundRules | None = None,
    items: Any = None,
    data_id: str | None = None,
    model_uri: str | None = None,
    asked_uri: str | None = None,
    show_progress: bool = False,
    overwrite: bool = False,
) -> ScoringResult:
    """Write the `n` best items of each user as a folder of Parquet parts with a manifest, `_manifest.json`.

    Rows hold `user_id, item_id, score, rank`, score float32 and rank int32 from 1, by user and rank; a user with fewer
    than `n` candidates gets fewer rows. The lists are those of `model.recommend`, also for users without a usable
    history, or of `recsys.rules.Ruled`. User ids are of the histories' type, item ids of the model's.

    The output appears by one rename when all parts are written. An interrupted job continues from its finished parts
    if it is called with the same model, data, users, options and version of this package, and starts over otherwise.
    A complete output of the same job is left as it is; one of another job is replaced when the new one is complete.
    Beyond the model and the histories, memory holds ids and one block of `batch_size` users.

    Args:
        histories: of the users to score; items that the model does not know are left out. Models with learned user
            vectors use those of users whose history is that of training, and work from any other history.
        output: folder to write, new, empty or the output of an earlier job; `~` is expanded and a link followed.
        users: external ids, in the order to write; all users of `histories` by default.
        exclude_seen: never recommend an item of the user's history.
        recall: find items by an index (`recsys.approximate.ItemIndex`) that holds at least this share of the exact
            lists, as measured on some of the users; None: exact lists. For catalogues of hundreds of thousands.
        reasons: also write a column `reasons`: lists of up to so many items of the user's history with the largest
            contributions above 0 to the score (`Recommender.explain`). With networks that takes many times as long.
        titles: also write a column `title`, by which the model's training data call the items.
        on_unknown: `raise` or `drop` for `users` that `histories` does not hold.
        seen: all that these users have seen, where `histories` holds only a part of it, such as what they liked; it is
            filtered in place of the histories.
        rules: what may stand in a list and how it is chosen (`recsys.Rules`); bound by `items`, see `bound_rules`.
        data_id: a digest that stands for histories and `seen`; by default their fingerprints.
        model_uri, asked_uri: where the model comes from, and the address, such as an alias, that was asked for.
        overwrite: start over even if this job is complete or was interrupted.

    Raises:
        NotFittedError: the model is not fitted.
        UnsupportedError: a `recall`, `reasons` or rules of diversity, and the model does not have what they need.
        UnknownIdError: a user is unknown and `on_unknown` is `raise`.
        ConfigError: an option is out of range, `output` is no path, or there are rules and a `recall`.
        DataError: `histories` are no Interactions or the model knows none of the items, `seen` lacks a user, `users`
            names one twice, or the rules do not fit the items.
        ScoringError: the model does not know its items, Parquet cannot store the ids, nobody is left to score, another
            job writes the same output, or `output` is or holds what no scoring job has written; the message names it.
    """
    batch_size = check_count("batch_size", batch_size)
    folder = OutputFolder(as_path(output).absolute())
    folder.check_early()
    bound = bound_rules(model, histories, rules, items)
    job = _Job.of(model, histories, seen, Asked(n, exclude_seen, recall, reasons, bound, titles))
    rows = _choose_rows(histories, users, on_unknown)
    origin = {"model_uri": model_uri, "asked_uri": asked_uri}
    return _write(job, rows, folder, _data(histories, seen, data_id), origin, batch_size, overwrite, show_progress)


def recommend_frame(
    model: Recommender,
    histories: Interactions,
    users: Sequence[Hashable] | None = None,
    n: int = 10,
    *,
    exclude_seen: bool = True,
    on_unknown: Literal["raise", "drop"] = "raise",
    seen: Interactions | None = None,
    reasons: int | None = None,
    rules: Rules | BoundRules | None = None,
    items: Any = None,
) -> pd.DataFrame:
    """Return what `score` writes as one frame in memory: `user_id, item_id, score, rank, source`, ids of any kind.

    Arguments and errors are those of `score`. `source` says what the list of a user rests on (`recsys.columns`):
    `learned` is what training learned of the user, `history` the history, `popularity` neither, so that these are the
    most popular items. Where diversity or calibration chooses, scores do not fall with the rank. With `reasons` there
    is a column of that name, of lists of item ids.
    """
    bound = bound_rules(model, histories, rules, items)
    job = _Job.of(model, histories, seen, Asked(n, exclude_seen, None, reasons, bound))
    lists = [job.lists(block) for block in _blocks(_choose_rows(histories, users, on_unknown), BATCH_SIZE)]
    user, item, scores, ranks = (np.concatenate(arrays) for arrays in zip(*lists, strict=True))
    ids = job.kernel.items
    frame = pd.DataFrame({USER: histories.users.ids(user), ITEM: ids.ids(item), SCORE: scores, RANK: ranks})
    frame[SOURCE] = np.concatenate([sources_in(model, job.source, block) for block in lists])
    if job.reasons is None:
        return frame
    found = [reasons_of(model, job.source, block, job.reasons).lists(ids) for block in lists]
    return frame.assign(**{REASONS: pd.Series([one for block in found for one in block], dtype=object)})


@dataclass(frozen=True, eq=False)
class _Job:
    """A kernel beside the histories that it reads."""

    kernel: Kernel
    source: Source
    recall: float | None = None
    reasons: int | None = None
    titles: pa.Array | None = None
    """Of the kernel's items, if they are to be written."""

    @classmethod
    def of(
        cls,
        model: Recommender,
        histories: Interactions,
        seen: Interactions | None,
        asked: Asked,
    ) -> _Job:
        """Match the data with the model, and say where little of them is known."""
        kernel = Kernel(model, asked.n, asked.exclude_seen, asked.rules)
        recall, reasons = asked.recall, asked.reasons
        if recall is not None:
            if asked.rules is not None:
                raise ConfigError("an index finds the model's own lists, and no rules hold there; leave out recall")
            check_recall(recall)
            check_faiss()
            item_table(model)
        if reasons is not None:
            reasons = check_reasons(model, reasons)
        source = source_for(model, histories, seen)
        if asked.rules is not None and all(warnings := [asked.rules.few_hidden(part) for part in source.user_parts()]):
            warn(warnings[0])
        return cls(kernel, source, recall, reasons, _titles(kernel) if asked.titles else None)

    def lists(self, rows: Rows) -> Lists:
        """Return the lists of these users."""
        return self.kernel.lists(self.source, rows)

    def table(self, rows: Rows, users: pa.Array | StoredIds) -> pa.Table:
        """Return the table to write of these users; `users` are the ids of all."""
        lists = self.lists(rows)
        if isinstance(users, StoredIds):
            listed, place = np.unique(lists.rows, return_inverse=True)
            table = self.kernel.table(lists._replace(rows=place.astype(np.int32)), users.arrow(listed))
        else:
            table = self.kernel.table(lists, users)
        if self.titles is not None:
            table = table.append_column(TITLE, self.titles.take(pa.array(lists.items)))
        if self.reasons is None:
            return table
        found = reasons_of(self.kernel.model, self.source, lists, self.reasons)
        return table.append_column(REASONS, found.arrow(self.kernel.item_ids))


def _titles(kernel: Kernel) -> pa.Array:
    """Return the titles of the items of a kernel; a ConfigError where the model knows none."""
    titles = kernel.model.titles_
    if titles is None:
        raise ConfigError(
            f"this {type(kernel.model).__name__} knows no titles: it was trained on data without a table of items "
            "with a column `title`; name one under data.items, or leave titles out"
        )
    return pa.array(titles, pa.string())


def _choose_rows(
    histories: Interactions, users: Sequence[Hashable] | None, on_unknown: Literal["raise", "drop"]
) -> Rows | range:
    """Return the rows of the users to score, in their order; all users by default."""
    check_on_unknown(on_unknown)
    rows: Rows | range = range(histories.shape[0])
    if users is not None:
        rows = chosen(histories.users, users, on_unknown, "users", "in the data")
    if not len(rows):
        raise ScoringError("there are no users to score: the data hold none of those asked for")
    return rows


def _blocks(rows: Rows | range, size: int) -> Iterator[Rows]:
    """Cut the rows into blocks of at most `size`."""
    return (_numbers(rows[start : start + size]) for start in range(0, len(rows), size))


def _numbers(rows: Rows | range) -> Rows:
    """Return rows as an array."""
    return np.arange(rows.start, rows.stop, dtype=np.int32) if isinstance(rows, range) else rows


def _digest(rows: Rows | range) -> str:
    """Return a SHA-256 of rows as int32."""
    digest = hashlib.sha256()
    for block in _blocks(rows, _DIGESTED):
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()


_DIGESTED: Final = 2**16


def _data(histories: Interactions, seen: Interactions | None, given: str | None) -> dict[str, Any]:
    """Return what tells the data from others."""
    if given is not None:
        return {"data": given, "seen": None}
    return {"data": histories.fingerprint(), "seen": None if seen is None else seen.fingerprint()}


def _write(
    job: _Job,
    rows: Rows | range,
    folder: OutputFolder,
    data: Mapping[str, Any],
    origin: Mapping[str, Any],
    batch_size: int,
    overwrite: bool,
    show_progress: bool,
) -> ScoringResult:
    """Write the output unless it is complete; `data` tells the data from others, `origin` is for the manifest."""
    kernel = job.kernel
    users = job.source.users
    user_ids, _ = arrow_ids(users, "user") if isinstance(users, IdMap) else users, kernel.item_ids
    options: dict[str, Any] = {"n": kernel.n, "exclude_seen": kernel.exclude_seen}
    if job.recall is not None:
        options["recall"] = job.recall
    if job.reasons is not None:
        options["reasons"] = job.reasons
    if job.titles is not None:
        options["titles"] = hashlib.sha256("\n".join(map(repr, job.titles.to_pylist())).encode()).hexdigest()
    if kernel.rules is not None:
        options["rules"] = kernel.rules.about()
    identity = {
        "model": model_checksum(kernel.model),
        **data,
        "users": _digest(rows),
        **options,
        "batch_size": batch_size,
        "recsys": version(),
    }
    with folder.locked():
        folder.check()
        manifest = None if overwrite else folder.manifest(identity)
        complete, resumed = manifest is not None, 0
        if manifest is None:
            parts = folder.begin(identity, resume=not overwrite)
            resumed = len(parts)
            measured = {} if job.recall is None else job.kernel.approximate(job.source, _numbers(rows), job.recall)
            hidden = not show_progress
            with tqdm(total=len(rows), unit="user", unit_scale=True, desc="score", disable=hidden) as bar:
                for number, block in enumerate(_blocks(rows, batch_size)):
                    name = f"part-{number:05d}.parquet"
                    if name not in parts:
                        parts[name] = folder.write_part(name, job.table(block, user_ids), len(block))
                    bar.update(len(block))
            model = {"run_id": kernel.model.about_.get("run_id"), "model": type(kernel.model).__name__}
            manifest = folder.publish({**origin, **model, **options, "users": len(rows), **measured}, parts, identity)
    counts = manifest["users"], manifest["rows"], len(manifest["parts"])
    recall = manifest.get("measured_recall", 1.0)
    return ScoringResult(folder.named, *counts, resumed_parts=resumed, already_complete=complete, recall=recall)


def model_checksum(model: Recommender) -> str:
    """Return a SHA-256 of all that decides what the model recommends, the same before and after saving."""
    digest = hashlib.sha256()
    params = {name: value for name, value in model.params().items() if name != "device"}
    described = {"model": type(model).__name__, "params": params, "state": model._state()}
    digest.update(json.dumps(described, sort_keys=True).encode())
    for name, array in sorted(model.learned_arrays().items()):
        digest.update(f"|{name}|{array.dtype}|{array.shape}|".encode())
        digest.update(np.ascontiguousarray(array).data)
    for ids in (model.users_, model.items_):
        values = ids.ids() if ids is not None else np.empty(0)
        for start in range(0, len(values), BATCH_SIZE):  # in slices, since text takes several times the memory of ids
            digest.update("\n".join(map(repr, values[start : start + BATCH_SIZE].tolist())).encode() + b"\n")
        digest.update(b"|")
    return digest.hexdigest()


def version() -> str:
    """Return the version of this package, for what tells one job from another."""
    try:
        return metadata.version("recsys")
    except metadata.PackageNotFoundError:
        return "not installed"

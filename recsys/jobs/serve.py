"""Use a saved model: recommend to a few users on the screen, to all as Parquet, or write it as a graph."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from recsys import scoring
from recsys.columns import ITEM, LEARNED, POPULARITY, RANK, SCORE, SOURCE, TITLE, USER
from recsys.errors import ConfigError
from recsys.export import INPUT, OUTPUT, export_onnx, graph_file
from recsys.frames import about_items, in_words
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.jobs.arrivals import arrivals, described, with_arrivals
from recsys.jobs.common import load_model, named, section_for
from recsys.jobs.list_rules import items_for, rules_of
from recsys.jobs.newcomers import with_table
from recsys.jobs.users_file import read_users
from recsys.mapped import without_entries
from recsys.models import Recommender
from recsys.scoring.local import BATCH_SIZE
from recsys.workspace import Workspace


def recommend(
    workspace: Workspace,
    model: str,
    users: Sequence[str],
    *,
    n: int = 10,
    data: str | None = None,
    rules: Path | None = None,
    items: Path | None = None,
    users_table: Path | None = None,
) -> pd.DataFrame:
    """Print each user's latest history and `n` recommendations by title.

    Returns `user_id, item_id, score, rank, source, title` and the further columns that the data have of their items.

    Args:
        rules, items, users_table: as in `score`.

    Raises:
        UnknownIdError: neither the data nor the table hold a user with that id.
        ConfigError: no user was named.
    """
    if not users:
        raise ConfigError("name at least one user with --user")
    chosen = rules_of(rules)
    fitted, _ = load_model(workspace, model)
    section = section_for(fitted, model, data)
    new = arrivals(items, section)
    fitted = with_arrivals(fitted, new, ruled=chosen is not None)
    fitted, histories, seen = with_table(fitted, users_table, section, workspace.folder)
    whole = histories if seen is None else seen
    ids = named(whole.users, users, "users", "in the data")
    lists = scoring.recommend_frame(
        fitted, histories, ids, n=n, seen=seen, rules=chosen, items=items_for(chosen, new, section, whole)
    )
    frame = with_titles(fitted, whole, lists, described(section.item_table(), new))
    unread = {user for user in ids if not histories.matrix[histories.users.codes([user])].nnz}
    for user, lists in frame.groupby(USER, sort=False) if workspace.in_words else ():
        print_user(whole, user, lists)
        if user in unread and (lists[SOURCE] == LEARNED).all():
            print("  (by features of the user: there is no history)")
        elif user in unread:
            print("  (as for a user without a history: the model reads nothing below data.min_rating)")
        elif (lists[SOURCE] == POPULARITY).all() and fitted.capabilities.personal:
            print("  (as for a user without a history: what this one holds says nothing to the model)")
    return frame


def with_titles(
    model: Recommender,
    histories: Interactions | None,
    frame: pd.DataFrame,
    about: tuple[pd.DataFrame, str] | None = None,
    *,
    of: str = ITEM,
) -> pd.DataFrame:
    """Return the frame with a column `title` and the further columns of its items, which are in the column `of`.

    Titles are those of the histories, else of the model; items without one show their id. The table of items `about`,
    with the name of its column of items, also describes items that the histories do not hold.
    """
    titles = frame[of].astype(str).to_numpy(dtype=object)
    if model.items_ is not None and model.titles_ is not None:
        titles = model.titles_[model.items_.codes(frame[of])]
    items, names = IdMap([]), None
    columns: Mapping[str, Any] = {}
    if histories is not None:
        items, names, columns = histories.items, histories.titles, histories.item_columns
    if about is not None and model.items_ is not None:
        items, (names, columns) = model.items_, about_items(*about, model.items_)
    codes = items.codes(frame[of], on_unknown="mark")
    known = codes >= 0
    if names is not None:
        own = names[codes]
        titles = np.where(known & (own != frame[of].astype(str).to_numpy(dtype=object)), own, titles)
    details: dict[str, Any] = {
        name: pd.Series(values[codes], index=frame.index).where(known)
        for name, values in columns.items()
        if name not in frame
    }
    return frame.assign(**{TITLE: titles, **details})


def print_user(histories: Interactions, user: Hashable, lists: pd.DataFrame, shown: int = 5) -> None:
    """Print the user's `shown` highest-valued (then latest) items, with values unless all are 1, then `lists`."""
    rated = bool((histories.matrix.data != 1).any())
    row = int(histories.users.codes([user])[0])
    entries = np.arange(histories.matrix.indptr[row], histories.matrix.indptr[row + 1])
    times = histories.timestamps[entries] if histories.timestamps is not None else np.zeros(len(entries))
    best = entries[np.lexsort((-times, -histories.matrix.data[entries]))][:shown]
    print(f"\nuser {user}: {len(entries)} interactions, among them")
    for entry in best:
        value, item = histories.matrix.data[entry], int(histories.matrix.indices[entry])
        print(f"    {f'{value:4.1f}  ' if rated else ''}{histories.title(item)}{after(histories.details(item))}")
    print("  recommended (score)")
    further = lists.columns[lists.columns.tolist().index(TITLE) + 1 :]
    for rank, score, title, *values in lists[[RANK, SCORE, TITLE, *further]].itertuples(index=False, name=None):
        print(f"    {rank:2d}.  {title}  ({score:.3f}){after(in_words(values))}")


def after(text: str) -> str:
    """Return what else is known of an item, set off from its title; empty if nothing is."""
    return f"  {text}" if text else ""


def score(
    workspace: Workspace,
    model: str,
    output: Path,
    *,
    n: int = 10,
    data: str | None = None,
    users: Path | None = None,
    on_unknown: Literal["raise", "drop"] | None = None,
    batch_size: int | None = None,
    recall: float | None = None,
    reasons: int | None = None,
    titles: bool = False,
    rules: Path | None = None,
    items: Path | None = None,
    users_table: Path | None = None,
    allow: Path | None = None,
    exclude: Path | None = None,
    engine: Literal["local", "spark"] = "local",
    master: str | None = None,
) -> scoring.ScoringResult:
    """Write the `n` best items of every user (or of a listed few) as Parquet parts with a manifest.

    Args:
        users: a text file with a user id a line, or a Parquet or CSV file with a column `user_id`, or a pipe of these.
        on_unknown: `raise`, the default, or `drop` for listed users that the data do not hold.
        batch_size: users of one part; an interrupted job continues after its last complete part.
        recall: least share of the exact lists, where an index may find the items; exact by default.
        reasons, titles: also write up to so many items of the history that speak for each item; a column `title`.
        rules: TOML file of rules for the lists (`recsys.Rules`), or a configuration with a section `[rules]`.
        items: csv or parquet file with columns of items: a model with features takes new items from it, and rules read
            it; by default rules read what they or the data name.
        users_table: csv or parquet file of users; those without a history get lists by their features.
        allow, exclude: files of item ids, csv or parquet with a column `item_id`, or text with an id a line.
        engine: what computes: this process, or Spark, which takes none of `users` to `titles`, no `users_table`.
        master: of Spark, such as `spark://HOST:7077`; all cores of this machine by default.
    """
    of_local = {"--users": users, "--on-unknown": on_unknown, "--batch-size": batch_size, "--recall": recall}
    of_local |= {"--titles": titles or None, "--reasons": reasons, "--users-table": users_table}
    _check_engine(engine, {"--master": master} if engine == "local" else of_local)
    scoring.check_output(output)  # before the model is loaded
    chosen = rules_of(rules, allow, exclude)
    if engine == "spark":
        from recsys.jobs import score_spark

        return _told(score_spark.run(workspace, model, output, n=n, data=data, master=master, rules=(chosen, items)))
    on_unknown, (fitted, pinned) = on_unknown or "raise", load_model(workspace, model)
    section = section_for(fitted, model, data)
    fitted = with_arrivals(fitted, new := arrivals(items, section), ruled=chosen is not None)
    fitted, histories, seen = with_table(fitted, users_table, section, workspace.folder)
    result = scoring.score(
        fitted,
        histories,
        output,
        n=n,
        users=read_users(users, histories.users, on_unknown),
        on_unknown=on_unknown,
        batch_size=BATCH_SIZE if batch_size is None else batch_size,
        recall=recall,
        reasons=reasons,
        titles=titles,
        seen=seen,
        rules=chosen,
        items=items_for(chosen, new, section, histories),
        model_uri=pinned,
        asked_uri=model,
        show_progress=workspace.progress,
    )
    _tell_unread(histories if users is None and users_table is None else None)
    return _told(result)


def _tell_unread(histories: Interactions | None) -> None:
    """Print how many users have a list as for no history; of None nothing."""
    if histories is not None and (unread := without_entries(histories.matrix)):
        print(f"users with a list as for no history, because all their ratings lie below data.min_rating: {unread:,}")


def _check_engine(engine: str, others: Mapping[str, Any]) -> None:
    """Refuse options that are for the other engine alone."""
    for flag, value in others.items():
        if value is not None:
            raise ConfigError(f"{flag} is not for --engine {engine}; leave it out, or choose the other engine")


def _told(result: scoring.ScoringResult) -> scoring.ScoringResult:
    """Print what was written, and return it."""
    state = "already complete" if result.already_complete else "written"
    print(f"{result.users:,} users, {result.rows:,} rows {state}: {result.output}")
    if result.recall < 1.0:
        print(f"found by an index: {100 * result.recall:.1f} % of what exact lists hold, as measured on some users")
    return result


def export(workspace: Workspace, model: str, onnx: Path) -> Path:
    """Write the model's ONNX graph, print what goes in and out, and return the file; see `recsys.export`."""
    graph_file(onnx)  # before the model is loaded
    fitted, _ = load_model(workspace, model)
    file = export_onnx(fitted, onnx)
    shape = f"(batch, {fitted.n_items_})"
    print(f"{file}: {INPUT} {shape} float32 to {OUTPUT} {shape}, columns in the order of the model's items.parquet")
    return file

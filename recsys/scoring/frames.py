"""The verbs of models as frames: external ids in and out, as in `recommend_frame`."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from recsys.columns import (
    CONTRIBUTION,
    HISTORY_ITEM,
    ITEM,
    LEARNED,
    NOTHING,
    RANK,
    SCORE,
    SIMILAR_ITEM,
    SIMILAR_USER,
    SOURCE,
    USER,
)
from recsys.errors import DataError, ScoringError, warn
from recsys.ids import IdMap
from recsys.interactions import Interactions
from recsys.models import Recommender
from recsys.models.fallback import readable
from recsys.models.reasons import Explanation, Method
from recsys.models.sources import sources_of
from recsys.params import check_count
from recsys.ranking import Ids, Scores
from recsys.scoring.choosing import chosen, source_for
from recsys.scoring.kernel import Kernel, Rows

OnUnknown = Literal["raise", "drop"]


def similar_items_frame(
    model: Recommender, items: Sequence[Hashable] | None = None, n: int = 10, *, on_unknown: OnUnknown = "raise"
) -> pd.DataFrame:
    """Return the `n` items most similar to each item, as `item_id, similar_item_id, score, rank`.

    The lists are those of `model.similar_items` without the item itself, which is first there. A warning says of which
    items training had no entries: what is similar to them is chance.

    Args:
        items: external ids, in the order of the lists; all items of the model by default.
        on_unknown: `raise` or `drop` for items that the model does not know.

    Raises:
        NotFittedError: the model is not fitted.
        UnsupportedError: it has no similarity of items.
        UnknownIdError: an item is unknown and `on_unknown` is `raise`.
        ConfigError: an option is out of range.
        DataError: `items` names one twice.
        ScoringError: the model does not know its item ids, or none of the items is known.
    """
    ids, n = Kernel(model).items, check_count("n", n)
    codes = _asked(ids, items, on_unknown, "items", "known to the model")
    _warn_of(ids, codes[model.popularity_[codes] == 0], len(codes), "items")
    found = model.similar_items(codes, N=min(n + 1, len(ids)))
    return _without_oneself(found, codes, ids, (ITEM, SIMILAR_ITEM))


def similar_users_frame(
    model: Recommender,
    users: Sequence[Hashable] | None = None,
    histories: Interactions | None = None,
    n: int = 10,
    *,
    on_unknown: OnUnknown = "raise",
) -> pd.DataFrame:
    """Return the `n` users most similar to each user, as `user_id, similar_user_id, score, rank`.

    The lists are those of `model.similar_users` without the user, who is first there. A warning says of which users
    nothing is known: who is similar to them is chance.

    Args:
        users: external ids, in the order of the lists; all users by default.
        histories: of all users to compare; without them the training users are compared, by what the model kept.
        on_unknown: `raise` or `drop` for users who are not among these.

    Raises:
        NotFittedError, UnsupportedError, UnknownIdError, ConfigError, ScoringError: as `similar_items_frame`.
        DataError: `users` names one twice, or the model knows none of the items of the histories.
    """
    n = check_count("n", n)
    model._check_fitted()
    if histories is None:
        model._require("keeps_users")
        ids, where = _training_users(model), "training users of the model"
        codes = _asked(ids, users, on_unknown, "users", where)
        counted = model.capabilities.reads_counts
        silent = codes[model.user_counts_[codes] == 0] if counted else codes[:0]
        found = model.similar_users(codes, N=min(n + 1, len(ids)))
    else:
        model._require("encodes")
        source, ids = source_for(model, histories, None), histories.users
        codes = _asked(ids, users, on_unknown, "users", "in the data")
        matrix, _ = source.block(np.arange(len(ids), dtype=np.int32))
        silent = codes[np.diff(readable(matrix[codes], model.popularity_).indptr) == 0]
        found = model.similar_users(codes, N=min(n + 1, len(ids)), user_items=matrix)
    _warn_of(ids, silent, len(codes), "users")
    return _without_oneself(found, codes, ids, (USER, SIMILAR_USER))


def recommend_users_frame(
    model: Recommender,
    items: Sequence[Hashable],
    histories: Interactions | None = None,
    n: int = 10,
    *,
    exclude_seen: bool = True,
    on_unknown: OnUnknown = "raise",
    seen: Interactions | None = None,
) -> pd.DataFrame:
    """Return the `n` best potential users of each item, as `item_id, user_id, score, rank, source`.

    The lists are those of `model.recommend_users`. `source` says what a user's score rests on: `learned` is what
    training learned of the user, `history` the history, and `nothing` neither, so that the score is that of an empty
    history and equal for all of them.

    Args:
        items: external ids, in the order of the lists.
        histories: of the users to choose from; without them the training users are ranked, by what the model kept.
        exclude_seen: never return a user whose history holds the item; needs histories.
        on_unknown: `raise` or `drop` for items that the model does not know.
        seen: all that these users have seen, where `histories` holds only a part of it; as in `recommend_frame`.

    Raises:
        NotFittedError, UnknownIdError, ConfigError, ScoringError: as `similar_items_frame`.
        UnsupportedError: there are no histories, and the model keeps nothing of its training users.
        DataError: `items` names one twice, the model knows none of the items of the histories, `seen` lacks a user, or
            users who have seen an item are to be left out and no histories say who they are.
    """
    ids, n = Kernel(model).items, check_count("n", n)
    codes = _asked(ids, items, on_unknown, "items", "known to the model")
    if histories is None:
        if not model.capabilities.scores_known_users:
            model._require("keeps_users")
        if exclude_seen or seen is not None:
            raise DataError(
                "who has seen an item is in the histories: pass them, or exclude_seen=False to rank all training users"
            )
        users = _training_users(model)
        found = model.recommend_users(codes, N=min(n, len(users)))
        sources = _kept_sources(model)
    else:
        source, users = source_for(model, histories, seen), histories.users
        matrix, filtered = source.block(np.arange(len(users), dtype=np.int32))
        found = model.recommend_users(
            codes, matrix, min(n, len(users)), exclude_seen, userid=source.trained(), seen=filtered
        )
        listed = np.unique(found[0][found[0] >= 0])
        zero = np.isin(listed, found[0][found[1] == 0])
        sources = np.full(len(users), NOTHING, dtype=object)
        sources[listed] = sources_of(model, source.trained(listed).astype(np.int64), matrix[listed], zero, NOTHING)
    row, code, scores, ranks = _flat(found)
    table = {ITEM: ids.ids(codes[row]), USER: users.ids(code), SCORE: scores, RANK: ranks, SOURCE: sources[code]}
    return pd.DataFrame(table)


def explain_frame(
    model: Recommender,
    histories: Interactions,
    users: Sequence[Hashable],
    items: Sequence[Hashable],
    n: int | None = None,
    *,
    method: Method | None = None,
    on_unknown: OnUnknown = "raise",
) -> pd.DataFrame:
    """Return which items of each user's history speak for each item: `model.explain` of every pair.

    Returns:
        `user_id, item_id, history_item_id, contribution, score, baseline, remainder, method`: by pair the items of the
        history, the largest contribution first; score = baseline + Σ contributions + remainder, if `n` leaves none out.
        A warning says whose history holds nothing that the model knows: they have no rows.

    Args:
        histories: of the users.
        users, items: external ids, in the order of the pairs.
        n: the items of the history with the largest contributions on either side of 0; all by default.
        method: as in `model.explain`.
        on_unknown: `raise` or `drop` for users whom the histories, and items which the model, does not hold.

    Raises:
        NotFittedError, UnknownIdError, ScoringError: as `similar_items_frame`, of users and of items.
        UnsupportedError: the model gives no reasons, or has no such method.
        ConfigError: `n` is no count, or there is no such method.
        DataError: one is named twice, the model knows none of the items of the histories, or a score is -inf.
    """
    n = None if n is None else check_count("n", n)
    tables, silent, asked = [], [], 0
    for user, found in explained(model, histories, users, items, method=method, on_unknown=on_unknown):
        asked += 1
        if found[0].contributions.empty:
            silent.append(user)
        tables += [explanation_table(user, one, n) for one in found]
    _warn_of(histories.users, histories.users.codes(silent), asked, "users")
    return pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)


def explained(
    model: Recommender,
    histories: Interactions,
    users: Sequence[Hashable],
    items: Sequence[Hashable],
    *,
    method: Method | None = None,
    on_unknown: OnUnknown = "raise",
) -> Iterator[tuple[Hashable, tuple[Explanation, ...]]]:
    """Yield each user with the explanations of all items, as `explain_frame`."""
    model._require("explains")
    ids = Kernel(model).items
    codes = _asked(ids, items, on_unknown, "items", "known to the model").astype(np.int64)
    source = source_for(model, histories, None)
    rows = _asked(histories.users, users, on_unknown, "users", "in the data")
    for user, row in zip(histories.users.take(rows), rows, strict=True):
        history, _ = source.block(np.array([row], dtype=np.int32))
        found = model.explain(int(source.trained([row])[0]), history, codes, method=method)
        assert isinstance(found, tuple)  # of an array of items
        yield user, found


def explanation_table(user: Hashable, one: Explanation, n: int | None) -> pd.DataFrame:
    """Return an explanation as the rows of `explain_frame`, of the `n` largest contributions on either side of 0."""
    rows = one.contributions
    if n is not None:
        order = np.argsort(-rows[CONTRIBUTION].abs().to_numpy(), kind="stable")
        rows = rows.iloc[np.sort(order[:n])]
    table = rows.rename(columns={ITEM: HISTORY_ITEM})
    pair = {USER: [user] * len(rows), ITEM: [one.item_id] * len(rows)}
    facts = {SCORE: one.score, "baseline": one.baseline, "remainder": one.remainder, "method": one.method}
    return pd.concat([pd.DataFrame(pair, index=rows.index), table], axis=1).assign(**facts)


def _asked(ids: IdMap, asked: Sequence[Hashable] | None, on_unknown: OnUnknown, what: str, where: str) -> Rows:
    """Return the codes of users or items; a ScoringError where none is left."""
    codes = chosen(ids, asked, on_unknown, what, where)
    if not len(codes):
        raise ScoringError(f"there are no {what} to answer for: none of those asked for is {where}")
    return codes


def _training_users(model: Recommender) -> IdMap:
    """Return the ids of the training users; a ScoringError where none were kept."""
    if model.users_ is None or not len(model.users_):
        raise ScoringError(f"this {type(model).__name__} has not kept the ids of its training users; pass histories")
    return model.users_


def _kept_sources(model: Recommender) -> npt.NDArray[np.object_]:
    """Return what the scores of the training users rest on, without histories."""
    learned = model.capabilities.personal & (model.user_counts_ > 0)
    if not model.capabilities.reads_counts:  # which bundles do not keep then
        learned = np.full(model.n_users_, model.capabilities.personal)
    return np.where(learned, LEARNED, NOTHING).astype(object)


def _warn_of(ids: IdMap, silent: Rows, asked: int, what: str) -> None:
    """Warn of users or items of whom nothing is known."""
    if len(silent):
        examples = list(ids.take(silent[:3]))
        why = "training had no entries of" if what == "items" else "nothing that the model can read is known of"
        warn(f"{why} {len(silent):,} of the {asked:,} {what}, for instance {examples}: what is said of them is chance")


def _flat(found: tuple[Ids, Scores]) -> tuple[Rows, Ids, Scores, Rows]:
    """Return the row, id, score and rank of each filled slot of lists."""
    ids, scores = found
    row, slot = np.nonzero(ids >= 0)
    return row.astype(np.int32), ids[row, slot], scores[row, slot], (slot + 1).astype(np.int32)


def _without_oneself(found: tuple[Ids, Scores], codes: Rows, ids: IdMap, names: tuple[str, str]) -> pd.DataFrame:
    """Return lists of similar users or items as a frame, without the one asked for at the head of each."""
    row, code, scores, ranks = (part[_others(found, codes)] for part in _flat(found))
    return pd.DataFrame({names[0]: ids.ids(codes[row]), names[1]: ids.ids(code), SCORE: scores, RANK: ranks - 1})


def _others(found: tuple[Ids, Scores], codes: Rows) -> npt.NDArray[np.bool_]:
    """Return which filled slots hold another one than was asked for."""
    row, code, _, _ = _flat(found)
    return np.asarray(code != codes[row])

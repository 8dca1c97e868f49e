"""Calls of the verbs that return frames, with arguments of every kind, held against the models' own verbs of indices.

What the verbs of indices answer is judged by `tests.verbs`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import recsys
from recsys import Interactions
from tests.verbs import DATA, N_ITEMS, N_USERS, NOT, TABLE, Caller, Given, right, wrong

LIKED = DATA.select(DATA.matrix.data >= 3)
TEXT = Interactions.from_frame(DATA.to_frame().astype({"user_id": str, "item_id": str}))
"""The same with ids of text, in another order."""


class FrameCaller(Caller):
    """Draws calls of `similar_items_frame`, `similar_users_frame`, `recommend_users_frame` and `explain_frame`."""

    def verbs(self) -> list[Callable[[], None]]:
        return [self.similar_items_frame, self.similar_users_frame, self.recommend_users_frame, self.explain_frame]

    def known(self, ids: Any) -> Given:
        """Some of the ids in any form, and their places; or something that is none of that."""
        places = self.rng.permutation(len(ids))[: int(self.rng.integers(1, 5))]
        some = ids.ids(places)
        if not self.odd():
            forms = some, some.tolist(), tuple(some.tolist()), pd.Series(some), list(map(str, some)), pd.Index(some)
            return Given(self.pick(*forms), places)
        numbers = 3, True, np.array(100), [5], [some[0], some[0]], [], "100", b"1", [None], object(), [[some[0]]]
        return self.pick(*wrong(*numbers, ["nothing"], [some[0], "nothing"], np.array([[100, 101]])))

    def count(self, total: int) -> Given:
        """A length, which may be beyond all there is."""
        n = self.length()
        return Given(10**12, total) if type(n.value) is int and n.value == 10**12 else n

    def unknown_too(self, ids: Given) -> dict[str, Any]:
        """Add an unknown id to some lists that are right, to be dropped."""
        if ids.means is NOT or not self.odd(0.2):
            return {"value": ids.value}
        return {"value": [*ids.value, "no such id"], "on_unknown": "drop"}

    def table_of(self, found: Any, codes: np.ndarray, own: bool) -> list[tuple[int, int, float, int]]:
        """Lists of indices as (place asked for, index, score, rank from 1), without oneself where `own`."""
        rows = []
        for place, ids, scores in zip(range(len(codes)), *found, strict=True):
            kept = [
                (int(i), float(s))
                for i, s in zip(ids, scores, strict=True)
                if i >= 0 and not (own and i == codes[place])
            ]
            rows += [(place, index, score, rank) for rank, (index, score) in enumerate(kept, 1)]
        return rows

    def same(self, what: str, frame: pd.DataFrame, wanted: list[Any], columns: list[str]) -> None:
        self.lists += 1
        name = f"{type(self.model).__name__}.{what}"
        if frame.columns.tolist()[: len(columns)] != columns:
            self.faults.append(f"{name} has the columns {frame.columns.tolist()}")
        elif frame[columns].to_records(index=False).tolist() != wanted:
            self.faults.append(f"{name} gave\n{frame}\nexpected {wanted[:9]}")

    def similar_items_frame(self) -> None:
        items, n = self.known(DATA.items), self.count(N_ITEMS)
        able = None if self.model.capabilities.compares_items else NOT
        given = self.unknown_too(items)
        arguments = {"items": given.pop("value"), "n": n.value, **given}
        call = self.attempt(
            lambda **options: recsys.similar_items_frame(self.model, **options),
            [items.means, n.means, able],
            **arguments,
        )
        if call is None:
            return
        found = self.model.similar_items(items.means, N=min(n.means + 1, N_ITEMS))
        rows = self.table_of(found, items.means, True)
        wanted = [(int(items.means[p]) * 10, 10 * i, score, rank) for p, i, score, rank in rows]
        self.same(f"similar_items_frame({arguments!r})", call, wanted, ["item_id", "similar_item_id", "score", "rank"])

    def similar_users_frame(self) -> None:
        users, n, given = self.known(DATA.users), self.count(N_USERS), {}
        histories = self.pick(*right(None, DATA) * 4, *wrong(TABLE, 3, DATA.to_frame()))
        able = self.model.capabilities.keeps_users if histories.value is None else self.model.capabilities.encodes
        given = self.unknown_too(users)
        arguments = {"users": given.pop("value"), "histories": histories.value, "n": n.value, **given}
        means = [users.means, histories.means, n.means, None if able else NOT]
        call = self.attempt(lambda **options: recsys.similar_users_frame(self.model, **options), means, **arguments)
        if call is None:
            return
        kept = {} if histories.value is None else {"user_items": TABLE}
        found = self.model.similar_users(users.means, N=min(n.means + 1, N_USERS), **kept)
        rows = self.table_of(found, users.means, True)
        wanted = [(100 + int(users.means[p]), 100 + i, score, rank) for p, i, score, rank in rows]
        self.same(f"similar_users_frame({arguments!r})", call, wanted, ["user_id", "similar_user_id", "score", "rank"])

    def recommend_users_frame(self) -> None:
        items, n, exclude = self.known(DATA.items), self.count(N_USERS), bool(self.odd(0.5))
        histories = self.pick(*right(None, DATA, LIKED, TEXT) * 3, *wrong(TABLE, 3))
        can = self.model.capabilities
        able = (can.keeps_users or can.scores_known_users) and not exclude if histories.value is None else True
        given = self.unknown_too(items)
        arguments = {"items": given.pop("value"), "histories": histories.value, "n": n.value, **given}
        seen = DATA if histories.value is LIKED else None
        arguments |= {"exclude_seen": exclude, "seen": seen}
        means = [items.means, histories.means, n.means, None if able else NOT]
        call = self.attempt(lambda **options: recsys.recommend_users_frame(self.model, **options), means, **arguments)
        if call is None:
            return
        options: dict[str, Any] = {"N": min(n.means, N_USERS), "filter_already_liked_users": exclude}
        users, where = DATA.users, DATA
        if (given_ := histories.value) is not None:
            users, where = given_.users, given_
            options |= {"user_items": where.histories(DATA.items), "userid": DATA.users.codes(users.ids())}
            options["seen"] = None if seen is None else seen.matrix
        found = self.model.recommend_users(items.means, **options)
        rows, names = self.table_of(found, items.means, False), users.ids()
        wanted = [(int(items.means[p]) * 10, names[i], score, rank) for p, i, score, rank in rows]
        self.same(f"recommend_users_frame({arguments!r})", call, wanted, ["item_id", "user_id", "score", "rank"])

    def explain_frame(self) -> None:
        users, items = self.known(DATA.users), self.known(DATA.items)
        n = self.pick(Given(None, 10**6), self.count(10**6))
        n = Given(None, 10**6) if n.value is None else n  # all of them
        histories = self.pick(*right(DATA) * 6, *wrong(TABLE, None, 3))
        able = None if self.model.capabilities.explains else NOT
        given = {"value": items.value} if users.means is NOT else self.unknown_too(items)
        arguments = {
            "histories": histories.value,
            "users": users.value,
            "items": given.pop("value"),
            "n": n.value,
            **given,
        }
        if "on_unknown" in arguments:
            arguments["users"] = [*users.value, "nobody"]
        means = [histories.means, users.means, items.means, n.means, able]
        call = self.attempt(lambda **options: recsys.explain_frame(self.model, **options), means, **arguments)
        if call is None:
            return
        wanted = []
        for user in users.means.tolist():
            found = self.model.explain(user, TABLE[user], items.means)
            for item, one in zip(items.means.tolist(), found, strict=True):
                facts = one.score, one.baseline, one.remainder, one.method
                pairs = one.contributions.values.tolist()
                most = sorted(range(len(pairs)), key=lambda place, pairs=pairs: (-abs(pairs[place][1]), place))
                pairs = [pairs[place] for place in sorted(most[: n.means])]
                wanted += [(100 + user, 10 * item, int(read), value, *facts) for read, value in pairs]
        columns = ["user_id", "item_id", "history_item_id", "contribution", "score", "baseline", "remainder", "method"]
        self.same(f"explain_frame({arguments!r})", call, wanted, columns)

"""Calls of the models' verbs with arguments of every kind, what must come of each, and a plain judge of the lists.

An argument comes with what it means; `NOT` means that an error of the package must refuse the call, `ANY` that one
may. What is not refused is compared with numpy: a list holds candidates that are not masked, by score and then by
index, and nothing better is missing.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse as sp

import recsys
from recsys import Interactions
from recsys.errors import RecsysError
from recsys.models import MODELS, Recommender
from tests.contract import CASES, quick, ratings

N_USERS, N_ITEMS = 24, 15
TABLE = ratings(N_USERS, N_ITEMS, density=0.3)
"""Ratings 1 to 5; the ids of users are 100, 101, ..., those of items 0, 10, 20, ..."""
EMPTY = np.float32(-np.finfo(np.float32).max)
NOT, ANY = object(), object()


def cube() -> Any:
    """Return a sparse array of three dimensions; a dense one where scipy, before 1.15, has none."""
    try:
        return sp.coo_array(np.ones((2, 2, 2)))
    except TypeError:
        return np.ones((2, 2, 2))


class Given(NamedTuple):
    """An argument, and what it means."""

    value: Any
    means: Any


def wrong(*values: Any) -> list[Given]:
    """Arguments that must be refused."""
    return [Given(value, NOT) for value in values]


def right(*values: Any) -> list[Given]:
    """Arguments that must be taken, of which nobody asks what they mean."""
    return [Given(value, None) for value in values]


def interactions(matrix: sp.csr_matrix, items: Any = None) -> Interactions:
    rows, columns = matrix.nonzero()
    items = np.arange(N_ITEMS) * 10 if items is None else items
    table = {"user_id": 100 + rows, "item_id": items[columns], "rating": np.asarray(matrix[rows, columns]).ravel()}
    about = pd.DataFrame({"item_id": items, "tags": [[f"t{n % 3}", f"u{n % 4}"] for n in range(len(items))]})
    return Interactions.from_frame(pd.DataFrame(table), items=about)


DATA = interactions(TABLE)
PART = recsys.splits.hold_out_ratings(DATA, test=0.2, validation=0.0).test


def model(name: str) -> Recommender:
    """A tiny fitted model that knows its ids."""
    cls = MODELS[name]
    changes = quick(cls) | ({"pretrain_epochs": 0} if "pretrain_epochs" in CASES[name] else {})
    return cls(**{**CASES[name], **changes}).fit(DATA, show_progress=False)


class Caller:
    """Draws calls of one model, makes them and judges what comes back."""

    def __init__(self, fitted: Recommender, seed: int) -> None:
        self.model, self.rng = fitted, np.random.default_rng(seed)
        self.called, self.refused, self.lists = 0, 0, 0
        self.faults: list[str] = []

    def run(self, calls: int) -> Caller:
        verbs = self.verbs()
        while self.called < calls:
            verbs[self.rng.integers(len(verbs))]()
        return self

    def verbs(self) -> list[Callable[[], None]]:
        """What is drawn from, the more often the more there are of it."""
        return [
            *[self.recommend] * 6,
            *[self.recommend_users, self.similar_items, self.similar_users, self.frame] * 2,
            self.predict,
            self.predict_pairs,
            self.encode,
            self.evaluate,
            self.save,
            self.fit,
        ]

    def attempt(self, call: Callable[..., Any], means: list[Any], **arguments: Any) -> Any:
        """Make a call and return its result, None where it was refused; `means` are the meanings of its arguments."""
        self.called += 1
        name = f"{type(self.model).__name__}.{getattr(call, '__name__', call)}({arguments!r})"[:600]
        try:
            result = call(**arguments)
        except RecsysError as error:
            self.refused += 1
            if not any(meaning is NOT or meaning is ANY for meaning in means):
                self.faults.append(f"{name} refused: {error}")
            return None
        except Exception as error:
            self.faults.append(f"{name} raised {type(error).__name__}: {error}")
            return None
        if any(meaning is NOT for meaning in means):
            self.faults.append(f"{name} was not refused")
            return None
        return result

    def pick(self, *options: Any) -> Any:
        return options[self.rng.integers(len(options))]

    def odd(self, share: float = 0.1) -> bool:
        return bool(self.rng.random() < share)

    # What is passed.

    def length(self) -> Given:
        if not self.odd():
            n = int(self.rng.integers(1, 20))
            return Given(self.pick(n, float(n), np.int64(n), np.uint8(n), np.float32(n), np.array(n)), n)
        numbers = 0, -1, -1.0, 2.5, float("nan"), np.inf, 1e300, 10**12, 2**63, 10**400, True, np.True_, 1 + 0j
        others = None, "3", "", b"2", [2], {}, object(), np.array([2]), np.datetime64("2020-01-01")
        return Given(self.pick(*numbers, *others), NOT)

    def shorter(self, n: Given, candidates: int) -> Any:
        """What a length means among so few candidates."""
        if n.means is NOT:
            return candidates if type(n.value) is int and n.value == 10**12 else NOT
        return min(n.means, candidates)

    def ids(self, n: int, below: int, *, scalar: bool = False) -> Given:
        """Indices in 0..below-1 in any form, or something that is none."""
        index = self.rng.integers(0, below, n)
        if scalar and self.odd(0.3):
            one = int(index[0]) if n else 0
            return Given(self.pick(one, np.int32(one), np.array(one)), np.array(one))
        if not self.odd():
            arrays = index, index.astype(np.uint8), index.astype(np.int16), pd.Series(index), pd.Index(index)
            return Given(self.pick(*arrays, index.tolist(), tuple(index.tolist())), index)
        nested = [[0, 1]], [[0], [0, 1]], [[]], np.zeros((2, 2), int), np.zeros((1, 1, 1), int)
        numbers = True, [True, False], 0.0, [0.5], [np.nan], 2**64, [2**70], np.array([1 + 0j])
        others = None, [None], "0", ["0"], b"0", {0}, {"a": 1}, object(), pd.Series(["a"]), np.array(["2020"], "M8[D]")
        return Given(self.pick(*nested, *numbers, *others), NOT)

    def outside(self, below: int) -> Given:
        return Given(self.pick(below, [-1], [0, below], 10**12, -(2**63), [2**63]), NOT)

    def history(self, rows: int, *, counted: bool = True) -> tuple[Given, sp.csr_matrix]:
        """Histories in any format, or something else, and as a plain csr; `counted`: more rows are wrong."""
        plain = TABLE[self.rng.integers(0, N_USERS, rows)].copy()
        if rows and self.odd(0.2):
            plain.data *= self.rng.random(len(plain.data)).astype(np.float32)
        if self.odd():
            return Given(self.no_history(plain, counted), NOT), plain
        form = self.pick("csr", "csc", "coo", "dok", "lil", "bsr", "csr_array", "double", "half", "unsorted", "twice")
        if form in ("csr", "csc", "coo", "dok", "lil", "bsr"):
            given = plain.asformat(form)
        elif form == "csr_array":
            given = sp.csr_array(plain)
        elif form == "double":
            given = plain.astype(np.float64)
        elif form == "half":
            plain.data[:] = np.round(plain.data)
            given = plain.astype(self.pick(np.int8, np.uint64, np.int64))
        else:
            coo = plain.tocoo()
            data, row, column = coo.data, coo.row, coo.col
            if form == "twice":
                data, row, column = np.tile(data / 2, 2), np.tile(row, 2), np.tile(column, 2)
            order = self.rng.permutation(len(data))
            order = order[np.argsort(row[order], kind="stable")]
            indptr = np.append(0, np.cumsum(np.bincount(row, minlength=rows)))
            given = sp.csr_matrix((data[order], column[order], indptr), shape=plain.shape)
        return Given(given, plain), plain

    def no_history(self, plain: sp.csr_matrix, counted: bool) -> Any:
        """Something that is no history of these rows of these items."""
        some = plain if plain.nnz else TABLE.copy()
        wild, far, backwards, great = some.astype(np.float64), some.copy(), some.copy(), some.astype(np.int64)
        wild.data[0] = self.pick(np.nan, np.inf, -np.inf, 1e30, -1e30, 1e300, 1e16)
        far.indices[0] = self.pick(99, -1, 2**31 - 1)
        backwards.indptr[1] = 10**6
        great.data[0] = np.iinfo(np.int64).max
        shapes = some[:, :-1], sp.hstack([some, some]), some.T, sp.csr_matrix((0, 0)), sp.vstack([some, some, some])
        shapes = shapes if counted else shapes[:-1]
        kinds = some.toarray(), some.todense(), pd.DataFrame(some.toarray()), some.astype(np.complex128), [some]
        others = [[1, 2]], "x", b"", 3, {}, object(), np.ones(N_ITEMS), cube()
        return self.pick(wild, far, backwards, great, *shapes, *kinds, *others)

    # What comes back.

    def judge(self, what: str, found: Any, scores: np.ndarray, n: int, masked: np.ndarray, alone: bool) -> None:
        """Compare lists with full rows of scores: `masked` marks what must not be in them, NaN scores too."""
        self.lists += 1
        ids, values = found
        name = f"{type(self.model).__name__}.{what}"
        shape = (n,) if alone else (len(scores), n)
        if ids.shape != shape or values.shape != shape or ids.dtype != np.int32 or values.dtype != np.float32:
            self.faults.append(f"{name}: {ids.dtype} {ids.shape}, {values.dtype} {values.shape}, expected {shape}")
            return
        for row, (own, their) in enumerate(zip(np.atleast_2d(ids), np.atleast_2d(values), strict=True)):
            full = np.where(masked[row], -np.inf, scores[row])
            tolerance = 1e-4 * (1 + np.abs(scores[row][np.isfinite(scores[row])]).max(initial=0))
            count = min(n, int((full > -np.inf).sum()))
            kept, left = own[:count], np.setdiff1d(np.arange(len(full)), own[:count])
            right = (
                (own[count:] == -1).all()
                and (their[count:] == EMPTY).all()
                and (kept >= 0).all()
                and len(set(kept.tolist())) == count
                and np.allclose(full[kept], their[:count], rtol=0, atol=tolerance)
                and (np.diff(their[:count]) <= 0).all()
                and all(a < b for a, b, tie in zip(kept, kept[1:], np.diff(their[:count]) == 0, strict=False) if tie)
                and (count == 0 or not (full[left] > their[count - 1] + tolerance).any())
            )
            if not right:
                self.faults.append(f"{name}: row {row} is {own}, {their} of {full}")
                return

    def full(self, found: Any, width: int) -> np.ndarray:
        """Return rows of scores from lists of everything."""
        ids, values = (np.atleast_2d(part) for part in found)
        rows = np.full((len(ids), width), -np.inf)
        for row, (own, their) in enumerate(zip(ids, values, strict=True)):
            rows[row, own[own >= 0]] = their[own >= 0]
        return rows

    def scores(self, users: np.ndarray, plain: sp.csr_matrix, recalculate: bool) -> np.ndarray:
        everything = {"N": N_ITEMS, "filter_already_liked_items": False, "recalculate_user": recalculate}
        rows = self.full(self.model.recommend(users, plain, **everything), N_ITEMS)
        if type(self.model).__name__ in ("EASE", "EDLAE", "DLAE", "RDLAE", "DEQL"):
            read = np.diff(plain.indptr) > 0
            rows[read] = (plain.toarray().astype(np.float64) @ self.model.weights_.numpy().astype(np.float64))[read]
        return rows

    # The verbs.

    def recommend(self) -> None:
        many = int(self.rng.integers(0, 5))
        users = self.ids(many, N_USERS, scalar=many == 1)
        if users.means is not NOT and self.odd(0.2):
            strangers = np.asarray(users.means) * 0 - self.pick(1, 7, 2**40)
            users = Given(strangers, strangers)
        (history, plain), n = self.history(many), self.length()
        arguments = {"userid": users.value, "user_items": history.value, "N": n.value}
        meanings = [users.means, history.means, n.means]
        masked = np.zeros((many, N_ITEMS), bool)
        if self.odd(0.1):
            arguments["user_items"], meanings = None, [*meanings[:1], ANY, *meanings[2:]]
        if self.odd(0.5):
            arguments["filter_already_liked_items"] = False
        elif self.odd(0.3):
            seen, seen_plain = self.history(many)
            arguments["seen"] = seen.value
            meanings.append(seen.means)
            masked |= _stored(seen_plain)
        else:
            masked |= _stored(plain)
        length = n.means
        for name in ("items", "filter_items"):
            if self.odd(0.2):
                some = self.ids(int(self.rng.integers(0, 8)), N_ITEMS) if not self.odd(0.1) else self.outside(N_ITEMS)
                arguments[name] = some.value
                means = some.means if some.value is not None else np.arange(N_ITEMS) if name == "items" else []
                meanings.append(means)
                if means is not NOT:
                    chosen = np.isin(np.arange(N_ITEMS), means)
                    masked |= ~chosen if name == "items" else chosen
                    if name == "items" and some.value is not None:
                        length = meanings[2] = self.shorter(n, int(chosen.sum()))
        if arguments.get("items") is not None and arguments.get("filter_items") is not None:
            meanings.append(NOT)
        if recalculate := self.odd(0.2):
            arguments["recalculate_user"] = True
        found = self.attempt(self.model.recommend, meanings, **arguments)
        if found is not None and arguments["user_items"] is not None:
            scores = self.scores(np.atleast_1d(users.means), plain, recalculate)
            self.judge(f"recommend({arguments!r})", found, scores, length, masked, np.ndim(users.means) == 0)

    def recommend_users(self) -> None:
        many, rows = int(self.rng.integers(0, 5)), int(self.rng.integers(0, 9))
        items = self.ids(many, N_ITEMS, scalar=many == 1) if not self.odd(0.1) else self.outside(N_ITEMS)
        (history, plain), n, liked = self.history(rows, counted=False), self.length(), self.odd(0.5)
        arguments = {
            "itemid": items.value,
            "user_items": history.value,
            "N": n.value,
            "filter_already_liked_users": liked,
        }
        meanings = [items.means, history.means, n.means]
        if self.odd(0.2):
            users = self.ids(rows, N_USERS)
            arguments["userid"] = users.value
            meanings.append(ANY if users.value is None else users.means)
        found = self.attempt(self.model.recommend_users, meanings, **arguments)
        if found is None:
            return
        asked = np.atleast_1d(items.means).astype(np.int64)
        options = {"userid": arguments["userid"]} if arguments.get("userid") is not None else {}
        everything = self.model.recommend_users(asked, plain, rows + 1, False, **options)
        masked = _stored(plain)[:, asked].T if liked else np.zeros((len(asked), rows), bool)
        scores = self.full(everything, rows)
        self.judge(f"recommend_users({arguments!r})", found, scores, n.means, masked, np.ndim(items.means) == 0)

    def similar_items(self) -> None:
        able = self.model.capabilities.compares_items
        self.similar(self.model.similar_items, N_ITEMS, "items", able, {})

    def similar_users(self) -> None:
        able, given, total = self.model.capabilities.keeps_users, {}, N_USERS
        if self.odd(0.5):
            total = int(self.rng.integers(1, 9))
            history, _ = self.history(total, counted=False)
            able = self.model.capabilities.encodes and history.means is not NOT
            given = {"user_items": history.value}
        self.similar(self.model.similar_users, total, "users", able, given)

    def similar(self, verb: Any, total: int, what: str, able: bool, given: dict[str, Any]) -> None:
        many = int(self.rng.integers(0, 5))
        asked = self.ids(many, total, scalar=many == 1) if not self.odd(0.1) else self.outside(total)
        n = self.length()
        arguments = {f"{what[:-1]}id": asked.value, "N": n.value, **given}
        meanings = [asked.means, n.means, None if able else NOT]
        masked, length = np.zeros((np.size(asked.means) if asked.means is not NOT else 0, total), bool), n.means
        name = self.pick(what, f"filter_{what}", None)
        if name:
            some = self.ids(int(self.rng.integers(0, 6)), total)
            arguments[name] = some.value
            if some.value is not None:
                meanings.append(some.means)
                chosen = np.isin(np.arange(total), some.means if some.means is not NOT else [])
                masked |= ~chosen if name == what else chosen
                if name == what:
                    length = meanings[1] = self.shorter(n, int(chosen.sum()))
        found = self.attempt(verb, meanings, **arguments)
        if found is not None:
            index = np.atleast_1d(asked.means)
            scores = self.full(verb(index, total, **given), total)
            self.judge(f"{verb.__name__}({arguments!r})", found, scores, length, masked, np.ndim(asked.means) == 0)

    def predict(self) -> None:
        many = int(self.rng.integers(0, 4))
        users, (history, plain) = self.ids(many, N_USERS, scalar=many == 1), self.history(many)
        shape = self.pick((many, 3), (many, 0), (many, 1))
        items = self.rng.integers(0, N_ITEMS, shape)
        asked = Given(items, items)
        if self.odd(0.2):
            halves, far = np.full(shape, 0.5), np.full(shape, N_ITEMS)
            empty = [Given(values, NOT if items.size else ANY) for values in (halves, far)]
            tables = np.zeros((many, 2, 2), int), np.zeros((many + 3, 2), int), [[0], [1, 2]]
            asked = self.pick(*empty, *wrong(*tables, "a", None))
        able = None if not self.model.why_no_ratings() else NOT
        arguments = {"userid": users.value, "user_items": history.value, "itemid": asked.value}
        found = self.attempt(self.model.predict, [users.means, history.means, asked.means, able], **arguments)
        if found is not None and asked.means is items:
            rows = np.repeat(np.arange(many), items.shape[1])
            pairs = self.model.predict_pairs(np.atleast_1d(users.means), plain, rows, items.ravel())
            if found.shape != items.shape or not np.allclose(found.ravel(), pairs, atol=1e-4):
                self.faults.append(f"{type(self.model).__name__}.predict({arguments!r}) gave {found}")

    def predict_pairs(self) -> None:
        many, pairs = int(self.rng.integers(1, 5)), int(self.rng.integers(0, 6))
        users, (history, _) = self.ids(many, N_USERS), self.history(many)
        rows = self.ids(pairs, many) if not self.odd(0.1) else self.outside(many)
        items = self.ids(pairs, N_ITEMS) if not self.odd(0.1) else self.outside(N_ITEMS)
        able = None if not self.model.why_no_ratings() else NOT
        arguments = {"userid": users.value, "user_items": history.value, "rows": rows.value, "items": items.value}
        meanings = [users.means, history.means, rows.means, items.means, able]
        found = self.attempt(self.model.predict_pairs, meanings, **arguments)
        if found is not None and (found.shape != (pairs,) or not np.isfinite(found).all()):
            self.faults.append(f"{type(self.model).__name__}.predict_pairs({arguments!r}) gave {found}")

    def encode(self) -> None:
        rows = int(self.rng.integers(0, 5))
        history, plain = self.history(rows, counted=False)
        able = None if self.model.capabilities.encodes else NOT
        found = self.attempt(self.model.encode, [history.means, able], user_items=history.value)
        if found is not None and not np.allclose(found, self.model.encode(plain), atol=1e-4):
            self.faults.append(f"{type(self.model).__name__}.encode({history.value!r}) gave {found}")

    def evaluate(self) -> None:
        metrics = self.pick(
            *right("ndcg@10", ["ndcg@1000000000", "recall@1"], ("coverage@5",)),
            *wrong(
                3, [], None, "", "ndcg", [None], ["ndcg@0"], ["ndcg@10", 5], "rmse@3", "diversity@5", f"ndcg@{10**20}"
            ),
        )
        arguments, meanings = {"metrics": metrics.value}, [metrics.means]
        for name, options in {
            "batch_size": [*right(7, 2.0), *wrong(0, -1, "3", None, True, 2.5)],
            "min_relevance": [*right(None, 3, 4.0), *wrong("a", np.nan, [3], 99)],
            "popularity": [*right(None, DATA), *wrong(TABLE, 3, pd.DataFrame({"a": [1]}))],
        }.items():
            if self.odd(0.3):
                given = self.pick(*options)
                arguments[name] = given.value
                meanings.append(given.means)
        part = self.pick(*right(PART) * 8, *wrong(None, DATA, TABLE))
        meanings.append(part.means)
        found = self.attempt(
            lambda **options: recsys.evaluate(self.model, part.value, **options), meanings, **arguments
        )
        if found is not None and not all(np.isfinite(value) for value in found.values.values()):
            self.faults.append(f"evaluate({arguments!r}) of {type(self.model).__name__} gave {found.values}")

    def frame(self) -> None:
        n = self.length()
        if n.value == 10**12 and isinstance(n.value, int):
            n = Given(10**12, N_ITEMS)  # there a list is as long as the catalog
        known = self.rng.choice(np.arange(100, 100 + N_USERS), int(self.rng.integers(1, 5)), replace=False)
        forms = (
            Given(None, DATA.users.ids()),
            *(Given(form, known) for form in (known, known.tolist(), pd.Series(known))),
        )
        numbers, others = (3, True, 100.0, np.array(100), [5], [100, 100]), ([], "100", b"1", [None], object())
        users = self.pick(*forms * 4, *wrong(*numbers, *others, [[100]], np.array([[100, 101]])))
        other = interactions(TABLE, np.arange(N_ITEMS) * 10 + 20)
        histories = self.pick(
            *right(DATA) * 8, *right(other), *wrong(TABLE, pd.DataFrame({"user_id": [1]}), None, 3, "x")
        )
        arguments = {"histories": histories.value, "users": users.value, "n": n.value}
        if self.odd(0.1):
            arguments["on_unknown"] = self.pick("x", None, 3)
        meanings = [histories.means, users.means, n.means, NOT if "on_unknown" in arguments else None]
        frame = self.attempt(lambda **options: recsys.recommend_frame(self.model, **options), meanings, **arguments)
        if frame is None:
            return
        read = histories.value.histories(DATA.items)
        rows = np.asarray(users.means) - 100
        masked = _stored(read[rows])
        scores = self.scores(DATA.users.codes(users.means), read[rows], False)
        found = np.full((len(rows), n.means), -1, np.int32), np.full((len(rows), n.means), EMPTY, np.float32)
        place = {user: row for row, user in enumerate(np.asarray(users.means).tolist())}
        for user, item, score, rank, _ in frame.itertuples(index=False, name=None):
            found[0][place[user], rank - 1], found[1][place[user], rank - 1] = item // 10, score
        self.judge(f"recommend_frame({arguments!r})", found, scores, n.means, masked, False)

    def fit(self) -> None:
        seed = self.pick(*right(3, np.int64(3), None), *wrong(-1, 2**32, "3", 1.5, True, [1]))
        cls, options = self.pick((recsys.EASE, {}), (recsys.ALS, {"factors": 2, "iterations": 1}), (recsys.ItemKNN, {}))
        seeded = cls is recsys.ALS
        history, plain = self.history(6)
        means = history.means
        if (means is NOT and sp.issparse(history.value)) or not plain.nnz:
            means = ANY  # another shape is another matrix
        fitted = cls(**options, **({"seed": seed.value} if seeded else {}))
        arguments = {"user_items": history.value, "show_progress": False}
        found = self.attempt(fitted.fit, [means, seed.means if seeded else None], **arguments)
        if found is not None and means is not ANY and (found.n_users_, found.n_items_) != plain.shape:
            self.faults.append(f"fit({arguments!r}) took another shape")

    def save(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            file = self.pick(*right(str(path), path) * 4, *wrong(io.BytesIO(), None, 3, [str(path)], folder))
            half = [Given({"a": value}, {"a": 0.5}) for value in (0.5, np.float32(0.5), np.array(0.5))]
            no_json = {"a": object()}, {"a": {1, 2}}, {"a": 1j}, {(1, 2): 3}
            metrics = self.pick(Given(None, {}), *half, *wrong(3, [1], "x", *no_json))
            about = self.pick(*right(None, {"a": np.int64(1)}), *wrong(3, {"a": b""}))
            arguments = {"file": file.value, "metrics": metrics.value, "about": about.value}
            self.attempt(self.model.save, [file.means, metrics.means, about.means], **arguments)
            if not any(given.means is NOT for given in (file, metrics, about)):
                kept = recsys.load(path)
                same = self.model.recommend(0, TABLE[0]), kept.recommend(0, TABLE[0])
                if (
                    not np.array_equal(same[0][0], same[1][0])
                    or recsys.artifacts.read_bundle(path).metrics != metrics.means
                ):
                    self.faults.append(f"save({arguments!r}) of {type(self.model).__name__} lost something")


def _stored(matrix: sp.csr_matrix) -> np.ndarray:
    marks = sp.csr_matrix((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    return marks.toarray() > 0

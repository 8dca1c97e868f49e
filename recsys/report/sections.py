"""The sections of a report: each says what it can of a run, or why it cannot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.errors import UnsupportedError
from recsys.evaluation import Evaluation, intervals, relevant_entries, top_lists
from recsys.metrics import higher_is_better, of, parse
from recsys.models import Recommender
from recsys.report import charts, findings
from recsys.report.markup import Child, Markup, tag
from recsys.report.plots import is_metric, unit
from recsys.splits import Split
from recsys.training import Record

Index = npt.NDArray[np.integer]
EXAMPLES: Final = 10
"""Users shown with their history and recommendations."""
_LISTED: Final = 10
"""Length of the lists that are shown and counted."""
_HISTORY: Final = 15
"""Items shown of an example user's history."""
_MAPPED: Final = 3000
"""Points of the map of items."""
_EPOCHS: Final = 400
"""Points of a learning curve."""
_LONGEST: Final = 100
"""Characters of a title."""
_DRAWS: Final = 30_000_000
"""Users drawn by the bootstrap in all, which takes about a second."""
_STRATA: Final = ("most popular fifth", "second fifth", "third fifth", "fourth fifth", "least popular fifth")


@dataclass(frozen=True, eq=False)
class Run:
    """What the sections of a page read; see `recsys.report.page` for the fields."""

    model: Recommender
    split: Split
    evaluation: Evaluation
    metrics: Sequence[str]
    about: Mapping[str, Any]
    record: Record
    min_relevance: float | None
    source: str | None

    @cached_property
    def title(self) -> str:
        """Heading of the page."""
        name = self.about.get("config", {}).get("data", {}).get("name")
        return type(self.model).__name__ + (f" on {name}" if name else "")

    @cached_property
    def resamples(self) -> int:
        """Bootstrap samples of each interval: fewer of many users, whose intervals are narrow."""
        return int(np.clip(_DRAWS // max(1, len(self.evaluation.per_user)), 200, 1000))

    @cached_property
    def intervals(self) -> pd.DataFrame:
        """`value, low, high` of each metric, by its name."""
        return intervals(self.evaluation, resamples=self.resamples).set_index("metric")

    @cached_property
    def held(self) -> npt.NDArray[np.int64]:
        """Training interactions of each item."""
        matrix = self.split.train.matrix
        return np.bincount(matrix.indices, minlength=matrix.shape[1])

    @cached_property
    def cut(self) -> int | None:
        """Length of the lists that are looked at: 10, or the first cut-off there is; None without any list."""
        cuts = [k for _, k in map(parse, (*self.metrics, *self.evaluation.values)) if k is not None]
        if not cuts or self.evaluation.per_item is None:
            return None
        return _LISTED if _LISTED in cuts else cuts[0]

    def name(self, item: int) -> str:
        """Return the title of an item, cut where it is too long."""
        text = self.split.train.title(item)
        return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"

    def _ends(self, metric: str) -> tuple[float, float]:
        """Return the interval of a metric, NaN where there is none."""
        row = self.intervals[["low", "high"]].loc[metric]
        low, high = row.to_numpy(np.float64)
        return float(low), float(high)

    def _users(self) -> dict[str, int]:
        """Return how many users each metric rests on."""
        summary = self.evaluation.summary
        return dict(zip(summary["metric"], summary["n"].astype(int).tolist(), strict=True))

    def opening(self) -> list[Markup]:
        """The most important figure, and where the model is."""
        test = self.split.test
        first = self.metrics[0]
        low, high = self._ends(first)
        sure = f" (95% interval {_figure(low)} to {_figure(high)})" if np.isfinite(low) else ""
        users = self._users()[first]
        return [
            tag(
                "p",
                tag("b", f"{first} {_figure(self.evaluation[first])}"),
                f"{sure}, over {users:,} of the ",
                f"{len(test.users):,} users of the test part.",
                class_="lead",
            ),
            tag("p", "Model ", tag("code", self.source), class_="note") if self.source else Markup(),
        ]

    def metric_table(self) -> list[Markup]:
        """The test metrics with their intervals and meanings."""
        users, rows = self._users(), []
        for name in self.metrics:
            low, high = self._ends(name)
            sure = f"{_figure(low)} to {_figure(high)}" if np.isfinite(low) else "–"
            better = "higher" if higher_is_better(name) else "lower"
            value = _figure(self.evaluation[name])
            rows.append((name, value, sure, f"{users[name]:,}", better, of(name).meaning))
        heads = ("metric", "value", "95% interval", "users", "better", "what it says")
        return [
            _table("Test metrics", heads, rows, numbers=(1, 2, 3)),
            _note(
                f"Means over users, each interval from {self.resamples:,} bootstrap samples of the users. Users "
                "without relevant held-out items are not counted. Metrics of all lists together have no interval."
            ),
        ]

    def facts(self) -> list[Markup]:
        """What was measured: data, split, hyperparameters."""
        config, train, test = self.about.get("config", {}), self.split.train, self.split.test
        data = self.about.get("data", {})
        shown: dict[str, Any] = {"name": config.get("data", {}).get("name")}
        for key, text in (("users", "users"), ("items", "items"), ("interactions", "entries")):
            if key in data:
                shown[text] = f"{data[key]:,}"
        if "density" in data:
            shown["density"] = f"{data['density']:.2%}"
        shown["fingerprint"] = tag("code", str(data["fingerprint"])) if "fingerprint" in data else None
        shown |= {k: v for k, v in config.get("data", {}).items() if k != "name" and v not in (None, 0, False)}
        parts = [("train", train.shape[0], train.shape[1], "–", train.nnz)]
        for name, part in (("validation", self.split.validation), ("test", test)):
            if part is not None:
                parts.append((name, len(part.users), part.target.shape[1], f"{part.context.nnz:,}", part.target.nnz))
        rows = [(name, f"{users:,}", f"{items:,}", context, f"{held:,}") for name, users, items, context, held in parts]
        cut = {k: v for k, v in config.get("split", {}).items() if v is not None}
        if self.min_relevance is not None:
            cut["relevant from"] = self.min_relevance
        model = {"class": type(self.model).__name__, **self.model.params()}
        if config.get("train", {}).get("refit"):
            model["refit"] = "on training and validation entries, before the test"
        return [
            tag(
                "div",
                tag("div", tag("h3", "Data"), _list(shown), class_="card"),
                tag(
                    "div",
                    tag("h3", "Split"),
                    _list(cut),
                    _table("Parts of the split", ("part", "users", "items", "context", "entries"), rows, (1, 2, 3, 4)),
                    _note("The context is what the model reads of a user, the entries are what it must find."),
                    class_="card",
                ),
                tag("div", tag("h3", "Model"), _list(model), class_="card"),
                class_="grid",
            )
        ]

    def training(self) -> list[Markup]:
        """Loss and validation metrics over the epochs."""
        frame = pd.DataFrame(self.record.epochs)
        if "loss" not in frame:
            return [_note(f"{type(self.model).__name__} is not trained by epochs: there is no curve.")]
        names = ["loss", *(str(name) for name in frame.columns if is_metric(str(name)))]
        kept = np.arange(len(frame))
        best = None
        if self.record.metric is not None and self.record.best_epoch is not None:
            best = int(np.flatnonzero(frame["epoch"] == self.record.best_epoch)[0])
        if len(frame) > _EPOCHS:
            kept = np.unique(np.linspace(0, len(frame) - 1, _EPOCHS).round().astype(int))
            kept = kept if best is None else np.union1d(kept, [best])
        drawn = []
        for name in names:
            values = pd.to_numeric(frame[name]).to_numpy(np.float64)
            places = kept[np.isfinite(values[kept])]
            if not len(places):
                continue
            epochs = frame["epoch"].to_numpy(np.float64)[places]
            mark = int(np.flatnonzero(places == best)[0]) if best in places else None
            summary = f"{len(frame)} epochs, the last value {_figure(values[places[-1]])}."
            if mark is not None:
                summary += f" At the best epoch, {epochs[mark]:g}, it is {_figure(values[places[mark]])}."
            drawn.append(
                charts.curve(
                    epochs,
                    values[places],
                    title="Training loss" if name == "loss" else f"Validation {name}",
                    x_label="epoch",
                    y_label="loss" if name == "loss" else unit(parse(name)[0]),
                    summary=summary,
                    mark=mark,
                    name="epoch",
                )
            )
        notes = []
        if best is not None:
            epoch, metric = self.record.best_epoch, self.record.metric
            notes.append(f"The line marks epoch {epoch}, the best on the validation part by {metric}.")
        if len(kept) < len(frame):
            notes.append(f"{len(kept)} of {len(frame):,} epochs are drawn.")
        return [tag("div", drawn, class_="grid"), _note(" ".join(notes))]

    def along_the_list(self) -> list[Markup]:
        """Each kind of metric against its cut-off."""
        parsed = {name: parse(name) for name in self.evaluation.values}
        kinds = list(dict.fromkeys(kind for kind, k in parsed.values() if k is not None))
        if not kinds:
            return [_no_lists()]
        ticks = sorted({float(k) for _, k in parsed.values() if k is not None})
        drawn = []
        for kind in kinds:
            points = sorted((k, name) for name, (other, k) in parsed.items() if other == kind and k is not None)
            found = self.intervals.loc[[name for _, name in points]]
            values = found["value"].to_numpy(np.float64)
            known = np.isfinite(values)
            if not known.any():
                continue
            at = [f"{value:.4f} at {k}" for (k, _), value in zip(points, values, strict=True)]
            drawn.append(
                charts.curve(
                    np.array([k for k, _ in points], dtype=np.float64)[known],
                    values[known],
                    low=found["low"].to_numpy(np.float64)[known],
                    high=found["high"].to_numpy(np.float64)[known],
                    title=f"{kind}@k",
                    x_label="k, items in the list",
                    y_label=unit(kind),
                    summary=f"{', '.join(at)}.",
                    ticks=ticks,
                    name="k =",
                )
            )
        return [tag("div", drawn, class_="grid"), _note("Whiskers are 95% bootstrap intervals over users.")]

    def activity(self) -> list[Markup]:
        """The first metric by the length of the users' histories."""
        measured = [name for name in self.metrics if name in self.evaluation.per_user]
        measured = [name for name in measured if self.evaluation.per_user[name].notna().any()]
        if not measured:
            return [_note("No metric of the table has a value per user.")]
        metric = measured[0]
        frame = findings.by_activity(self.evaluation, self.split.test, metric, self.resamples)
        spans = [str(group).removesuffix(" items") for group in frame["group"]]
        values, low, high = (frame[name].to_numpy(np.float64) for name in ("value", "low", "high"))
        rows = [
            (span, f"{users:,}", _figure(value), f"{_figure(a)} to {_figure(b)}")
            for span, users, value, a, b in zip(spans, frame["users"], values, low, high, strict=True)
        ]
        chart = charts.bars(
            spans,
            {metric: values},
            title=f"{metric} by length of history",
            x_label="items in the user's history, quarters of the users",
            y_label=unit(parse(metric)[0]),
            summary="; ".join(f"{span} items: {_figure(value)}" for span, value in zip(spans, values, strict=True))
            + ".",
            intervals=(low, high),
        )
        heads = ("items in history", "users", metric, "95% interval")
        return [
            tag("div", chart, _table(f"{metric} by length of history", heads, rows, (1, 2, 3)), class_="grid"),
            _note("A quarter of the users each, as far as histories of one length allow."),
        ]

    def popularity(self) -> list[Markup]:
        """What is recommended and found, by the popularity of items."""
        if self.cut is None or self.evaluation.per_item is None:
            return [_no_lists()]
        k, per_item = self.cut, self.evaluation.per_item
        found = findings.by_popularity(self.held, per_item, k)
        frame = found[found["items"] > 0]
        names = [_STRATA[place] for place in frame.index]
        labels = [f"{place + 1}" for place in frame.index]
        shares = ("catalogue", "training", "held_out", "recommended", "recall")
        columns = {name: frame[name].to_numpy(np.float64) for name in shares}
        rows = [
            (f"{label}, {name}", f"{items:,}", *(_percent(columns[share][place]) for share in shares))
            for place, (label, name, items) in enumerate(zip(labels, names, frame["items"], strict=True))
        ]
        heads = ("stratum", "items", "of the catalogue", "of training", "of held-out", f"of places @{k}", f"recall@{k}")
        exposure = charts.bars(
            labels,
            {"recommendations": columns["recommended"], "held-out entries": columns["held_out"]},
            title=f"Recommended and held out, @{k}",
            x_label="stratum of items, 1 the most popular",
            y_label="share of all",
            summary="; ".join(
                f"{name}: {_percent(a)} of recommendations, {_percent(b)} of held-out entries"
                for name, a, b in zip(names, columns["recommended"], columns["held_out"], strict=True)
            )
            + ".",
            percent=True,
        )
        recall = charts.bars(
            labels,
            {f"recall@{k}": columns["recall"]},
            title=f"Recall@{k} of held-out entries",
            x_label="stratum of items, 1 the most popular",
            y_label="share found",
            summary="; ".join(f"{name}: {_percent(a)}" for name, a in zip(names, columns["recall"], strict=True)) + ".",
            percent=True,
        )
        lists = per_item[f"recommended@{k}"].to_numpy(np.int64)
        never = int((lists == 0).sum())
        tail = charts.long_tail(
            self.held,
            lists,
            self.name,
            title="Long tail: an item's training and its exposure",
            x_label="training interactions",
            y_label=f"lists of {k}",
            summary=f"{never:,} of {len(lists):,} items are in no list; the most frequent is in {lists.max():,}.",
        )
        return [
            tag("div", exposure, recall, tail, class_="grid"),
            _table("Strata of items", heads, rows, (1, 2, 3, 4, 5, 6)),
            _note(
                "The items in the order of their training popularity, cut into strata that each hold about a fifth of "
                "the training interactions. Recall is over all held-out entries of a stratum, not a mean over users. "
                f"{never:,} of {len(lists):,} items ({never / len(lists):.0%}) are in nobody's first {k}. "
                "In the long tail, items that fall on one spot share a dot."
            ),
        ]

    def map(self) -> list[Markup]:
        """The items' vectors in two dimensions."""
        try:
            vectors = self.model.item_vectors()
        except UnsupportedError as error:
            return [_note(f"Left out: {error}.")]
        shown = findings.most_popular(self.held, _MAPPED)
        plane, shares = findings.principal_plane(vectors[shown])
        kinds = findings.strata(self.held)[shown]
        texts = [f"{self.name(item)} ({self.held[item]:,} interactions)" for item in shown.tolist()]
        which = (
            f"the {len(shown):,} most popular of {len(vectors):,}"
            if len(shown) < len(vectors)
            else f"all {len(shown):,}"
        )
        axes = [f"component {place + 1} ({share:.0%} of the variance)" for place, share in enumerate(shares)]
        chart = charts.dots(
            plane[:, 0],
            plane[:, 1],
            texts,
            kinds,
            title="Item vectors in two dimensions",
            x_label=axes[0],
            y_label=axes[1],
            summary=f"Shown are {which} items, each at the first two principal components of its vector.",
            legend=_STRATA,
        )
        note = (
            f"Shown are {which} items: their {vectors.shape[1]}-dimensional vectors, scaled to length 1, on the first "
            f"two principal components, which hold {sum(shares):.0%} of the variance. Point at a dot for its title. "
            "Colours are the strata of popularity."
        )
        return [tag("div", chart, class_="wide"), _note(note)]

    def examples(self) -> list[Markup]:
        """Users drawn at random, always the same ones: what they had, what they get, what of it was held out."""
        part = self.split.test
        relevant = relevant_entries(part.target, self.min_relevance)
        able = np.flatnonzero(np.diff(relevant.indptr))
        rows = np.sort(np.random.default_rng(0).choice(able, size=min(EXAMPLES, len(able)), replace=False))
        n = min(_LISTED, relevant.shape[1])
        cards = [
            self._example(row, top_lists(self.model, part, np.array([row]), n)[0], relevant[row], part.context[row])
            for row in rows.tolist()
        ]
        return [
            _note(
                f"{len(rows)} of the {len(able):,} users with held-out items, drawn at random. A history shows up to "
                f"{_HISTORY} items, the highest rated first, then the best known; ✓ marks what was held out."
            ),
            tag("div", cards, class_="cards"),
        ]

    def _example(
        self, row: int, ids: npt.NDArray[np.integer], relevant: sp.csr_matrix, context: sp.csr_matrix
    ) -> Markup:
        ids = ids[ids >= 0]
        hits = np.isin(ids, relevant.indices)
        order = np.lexsort((-self.held[context.indices], -context.data))
        history = [tag("li", self.name(item)) for item in context.indices[order[:_HISTORY]].tolist()]
        more = len(order) - len(history)
        mark = tag("b", "\N{NO-BREAK SPACE}✓", tag("span", " held out", class_="unseen"))
        items = [
            tag("li", self.name(item), mark if hit else None, class_="hit" if hit else None)
            for item, hit in zip(ids.tolist(), hits.tolist(), strict=True)
        ]
        found = f"{relevant.nnz:,} held out, {int(hits.sum())} of them in the first {len(ids)}"
        return tag(
            "article",
            tag("h3", f"User {self.split.test.users.ids([row])[0]}"),
            _note(found),
            tag(
                "div",
                tag(
                    "div",
                    tag("h4", f"History, {len(order):,} items"),
                    tag("ul", history),
                    _note(f"and {more:,} more") if more else None,
                ),
                tag("div", tag("h4", "Recommended"), tag("ol", items)),
                class_="two",
            ),
            class_="card",
        )


def _note(*content: Child) -> Markup:
    return tag("p", content, class_="note")


def _no_lists() -> Markup:
    return _note("No metric of recommended lists was measured; evaluate for instance ndcg@10.")


def _list(pairs: Mapping[str, Any]) -> Markup:
    """Return names and values, nested ones as text; None is left out."""
    shown = {name: value for name, value in pairs.items() if value is not None}
    return tag("dl", ((tag("dt", name), tag("dd", _text(value))) for name, value in shown.items()))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence):
        return ", ".join(map(_text, value)) or "none"
    return str(value)


def _table(label: str, heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table in a box of its own, which scrolls where the page is narrow; the first cell of a row heads it."""

    def side(place: int) -> str | None:
        return "n" if place in numbers else None

    head = tag("tr", (tag("th", text, scope="col", class_=side(place)) for place, text in enumerate(heads)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), (tag("td", row[i], class_=side(i)) for i in range(1, len(row))))
        for row in rows
    ]
    table = tag("table", tag("thead", head), tag("tbody", body))
    return tag("div", table, class_="scroll", role="region", aria_label=label, tabindex=0)


def _figure(value: float) -> str:
    if not np.isfinite(value):
        return "–"
    return f"{value:,.1f}" if abs(value) >= 100 else f"{value:.4f}"


def _percent(value: float) -> str:
    return "–" if not np.isfinite(value) else f"{value:.1%}"

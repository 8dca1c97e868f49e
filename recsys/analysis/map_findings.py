"""The section of a page with maps of items and users, and with walks from one user's taste to another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.sparse as sp

from recsys.analysis.findings import Findings, Subject
from recsys.analysis.map import Method, Of, item_vectors
from recsys.analysis.map import map as map_of
from recsys.analysis.reduction import some
from recsys.analysis.walk import walk
from recsys.columns import USER
from recsys.errors import UnsupportedError
from recsys.interactions import Interactions
from recsys.params import random_generator
from recsys.report import charts
from recsys.report.groups import category_column, grouped
from recsys.report.items import STRATA, strata
from recsys.report.markup import Markup, note, percentage, table, tag

_LONGEST: Final = 60
"""Characters of a title under the pointer."""
_NAMED: Final = 3
"""Titles that describe a cluster."""
_COLUMNS: Final = 3
"""Columns of users by which they are colored."""
_WALKED: Final = 1_000
"""Test users, drawn, among whom walks go and nearest users are looked for."""
_WALKS: Final = 30
_OTHERS: Final = 10
"""Users drawn for each beginning of a walk, of whom the one farthest by cosine is its end."""
_SHOWN: Final = 2
"""Walks whose steps are listed."""
_SHORTEST: Final = 10
"""Entries of a history that a walk begins or ends at."""
_LISTED: Final = 5
"""Titles listed of a step."""


def findings(subject: Subject) -> Findings:
    """Draw the items and the training users, and walk between test users; what the model lacks is left out."""
    model, tables, metrics = subject.model, {}, {}
    content: list[Markup] = []
    told: list[str] = []
    drawn: dict[Of, bool] = {"items": _has_items(subject), "users": model.capabilities.encodes}
    if not any(drawn.values()):
        item_vectors(model)  # refused, with models that have some
    for of in (name for name, has in drawn.items() if has):
        frame = map_of(model, subject.train, of=of, seed=subject.seed)
        tables[f"map_{of}"] = frame
        explained = float(np.sum(frame.attrs["explained"]))
        metrics[f"map_explained_{of}"] = explained
        shown = _shown(frame, of)
        told.append(f"Two components hold {explained:.0%} of the variance of {shown}.")
        content += [tag("h3", f"Map of {of}"), *_map_of(subject, frame, of, "pca", shown)]
        if find_spec("umap") is not None:
            other = map_of(model, subject.train, of=of, method="umap", seed=subject.seed)
            tables[f"umap_{of}"] = other
            content += _map_of(subject, other, of, "umap", shown)
    if model.capabilities.encodes and model.capabilities.decodes:
        walks = _walks(subject)
        if walks is not None:
            tables["walks"] = walks
            middle = walks[walks["position"] == 0.5][["of_start", "of_end"]].mean()
            metrics |= {f"walk_middle_{name}": float(value) for name, value in middle.items()}
            told.append(
                f"Halfway between two users the first 10 items hold {middle['of_start']:.0%} of items from the one's "
                f"history and {middle['of_end']:.0%} from the other's."
            )
            content += _walk_content(walks)
    return Findings(title="Maps and walks", summary=" ".join(told), tables=tables, metrics=metrics, content=content)


def _has_items(subject: Subject) -> bool:
    try:
        item_vectors(subject.model)
    except UnsupportedError:
        return False
    return True


def _shown(frame: pd.DataFrame, of: Of) -> str:
    """Return which points are shown."""
    shown, total = frame.attrs["shown"], frame.attrs["total"]
    if shown == total:
        return f"all {total:,} {of}"
    return f"the {shown:,} most popular of {total:,} items" if of == "items" else f"{shown:,} of {total:,} users, drawn"


def _map_of(subject: Subject, frame: pd.DataFrame, of: Of, method: Method, shown: str) -> Iterator[Markup]:
    """Yield the clouds of a map, one per coloring, a note, and the table of the clusters."""
    axes = ["UMAP 1", "UMAP 2"]
    if method == "pca":
        axes = [f"component {place} ({share:.0%})" for place, share in enumerate(frame.attrs["explained"], 1)]
    plane = frame[["x", "y"]].to_numpy(np.float64)
    texts = _texts(subject, frame, of)
    clouds = []
    for name, (kinds, legend) in _colorings(subject, frame, of).items():
        counts = np.bincount(kinds, minlength=len(legend))
        summary = "; ".join(f"{group}: {n:,}" for group, n in zip(legend, counts.tolist(), strict=True))
        title = f"{of.title()} by {name}" + (", UMAP" if method == "umap" else "")
        caption = charts.Caption(title, axes[0], axes[1], f"Shown are {shown}. {summary}.")
        clouds.append(charts.cloud(caption, plane, texts, kinds, legend))
    yield tag("div", clouds, class_="grid")
    vectors = "its vector" if of == "items" else "the user's code"
    how = "the first two principal components" if method == "pca" else "UMAP, which keeps neighbors, not distances,"
    yield note(
        f"Shown are {shown}, each as a dot at {how} of {vectors}, scaled to length 1. Clusters are of k-means in all "
        "dimensions. Point at a dot for what it is."
    )
    yield _cluster_table(subject, frame, of, method)


def _texts(subject: Subject, frame: pd.DataFrame, of: Of) -> list[str]:
    """Return what each point shows under the pointer."""
    if of == "users":
        best = [_favorites(subject.train, row) for row in frame["index"]]
        return [
            f"user {_short(str(id))} ({n:,} items, such as {titles})"
            for id, n, titles in zip(frame[USER], frame["interactions"], best, strict=True)
        ]
    details = [subject.train.details(item) for item in frame["index"]]
    return [
        f"{_short(title)} ({n:,} interactions{f'; {known}' if known else ''})"
        for title, n, known in zip(frame["title"], frame["interactions"], details, strict=True)
    ]


def _favorites(data: Interactions, row: int) -> str:
    """Return the title of the first item of a user's history, highest values first, then by index."""
    history = data.matrix[row]
    order = np.argsort(-history.data, kind="stable")[:1]
    return "".join(_short(data.title(item)) for item in history.indices[order].tolist())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _colorings(subject: Subject, frame: pd.DataFrame, of: Of) -> dict[str, tuple[npt.NDArray[np.intp], Sequence[str]]]:
    """Return by name what points are colored by: the group of each, and the groups' names."""
    index = frame["index"].to_numpy(np.intp)
    found: dict[str, tuple[npt.NDArray[np.intp], Sequence[str]]] = {}
    if of == "items":
        popularity = np.bincount(subject.train.matrix.indices, minlength=subject.train.shape[1])
        found["popularity"] = _present(strata(popularity)[index], STRATA)
        name = category_column(subject.train.item_columns)
        if name is not None:
            found[name] = grouped([subject.train.item_columns[name][item] for item in index.tolist()])
    else:
        found["activity (items in the history)"] = grouped(frame["interactions"])
        if subject.users is not None:
            known = subject.users.reindex(frame[USER])
            several = [name for name in known.columns if known[name].astype(str).nunique() > 1]
            for name in several[:_COLUMNS]:
                found[str(name)] = grouped(known[name])
    clusters = frame["cluster"].to_numpy(np.intp)
    found["cluster"] = clusters - 1, [f"cluster {number}" for number in range(1, int(clusters.max()) + 1)]
    return found


def _present(kinds: npt.NDArray[np.intp], names: Sequence[str]) -> tuple[npt.NDArray[np.intp], Sequence[str]]:
    """Leave out the groups without members."""
    present, kinds = np.unique(kinds, return_inverse=True)
    return kinds.astype(np.intp), [names[kind] for kind in present.tolist()]


def _cluster_table(subject: Subject, frame: pd.DataFrame, of: Of, method: Method) -> Markup:
    """Return the clusters with their sizes and what is typical of them."""
    data = subject.train
    marks = sp.csr_matrix((np.ones_like(data.matrix.data), data.matrix.indices, data.matrix.indptr), data.shape)
    rows = []
    for cluster, members in frame.groupby("cluster"):
        inside = members["index"].to_numpy(np.intp)
        if of == "items":
            typical = inside[np.argsort(-members["interactions"].to_numpy(), kind="stable")]
        else:
            others = frame["index"].to_numpy(np.intp)
            lift = np.ravel(marks[inside].mean(0) - marks[others].mean(0))
            typical = np.argsort(-lift, kind="stable")
        titles = " · ".join(_short(data.title(item)) for item in typical[:_NAMED].tolist())
        rows.append((f"cluster {cluster}", f"{len(members):,}", titles))
    what = "most popular items" if of == "items" else "items that its users have more often than others"
    name = f"Clusters of {of}" + (" on the map by UMAP" if method == "umap" else "")
    return table(name, ("cluster", of, what), rows, (1,))


def _walks(subject: Subject) -> pd.DataFrame | None:
    """Return the steps of walks between drawn test users far from each other; None where there are too few."""
    part, rng = subject.split.test, random_generator(subject.seed)
    rows = some(np.flatnonzero(np.diff(part.context.indptr)), _WALKED, rng)
    context = part.context[rows]
    long = np.flatnonzero(np.diff(context.indptr) >= _SHORTEST)
    if len(long) < 2 or len(rows) < 3:
        return None
    users = Interactions(context, part.users.take(rows), subject.train.items, titles=subject.train.titles)
    codes = subject.model.encode(context[long]).astype(np.float64)
    unit = codes / np.maximum(np.linalg.norm(codes, axis=1, keepdims=True), 1e-12)
    found = []
    for number, start in enumerate(rng.permutation(len(long))[:_WALKS].tolist(), 1):
        others = rng.choice(len(long), min(_OTHERS, len(long)), replace=False)
        end = int(others[(unit[others] @ unit[start]).argmin()])
        if end == start:
            continue
        steps = walk(subject.model, users, int(long[start]), int(long[end]))
        ends = {
            "walk": number,
            "start_id": users.users.ids([long[start]])[0],
            "end_id": users.users.ids([long[end]])[0],
        }
        found.append(steps.drop(columns="nearest").assign(**ends))
    return pd.concat(found, ignore_index=True) if found else None


def _walk_content(walks: pd.DataFrame) -> list[Markup]:
    """Return the chart of the shares along the walks, and the steps of some of them."""
    means = walks.groupby("step")[["of_start", "of_end"]].mean()
    steps = means.index.to_numpy(np.float64)
    series = {"history of the first user": means["of_start"], "history of the last user": means["of_end"]}
    number = walks["walk"].nunique()
    summary = "; ".join(
        f"step {step:g}: {percentage(start)} and {percentage(end)}"
        for step, start, end in zip(steps, *series.values(), strict=True)
    )
    caption = charts.Caption("Whose taste a step is", "step", "share of the first 10 items", f"{summary}.")
    chart = charts.curves(caption, steps, {k: v.to_numpy(np.float64) for k, v in series.items()}, percent=True)
    shown = [_steps(group) for _, group in list(walks.groupby("walk"))[:_SHOWN]]
    return [
        tag("h3", "Walks between users"),
        tag("div", chart, class_="grid"),
        note(
            "A walk goes in equal steps from the code of a drawn test user to that of another: of 10, the farthest by "
            "cosine. Each step is decoded to its best items, those of the histories included. The chart "
            f"is the mean of {number} walks; {len(shown)} are listed."
        ),
        tag("div", shown, class_="cards"),
    ]


def _steps(steps: pd.DataFrame) -> Markup:
    """Return one walk: per step the best titles, whose they are, and the nearest of the other users."""
    items = [
        tag(
            "li",
            " · ".join(map(_short, row["titles"].split(" · ")[:_LISTED])),
            tag(
                "div",
                tag(
                    "small",
                    f"{percentage(row['of_start'])} of the first user's history, {percentage(row['of_end'])} of the "
                    f"last's; nearest: user {row['nearest_id']}",
                ),
            ),
        )
        for row in steps.to_dict("records")
    ]
    first = steps.iloc[0]
    return tag(
        "article", tag("h3", f"User {first['start_id']} to user {first['end_id']}"), tag("ol", items), class_="card"
    )

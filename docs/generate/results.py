"""`make docs`: the tables of measured figures in docs/results.md, docs/models.md and README.md, from docs/results.json.

`python -m docs.record` measures them and writes that file; nothing else holds a figure of a table.
"""

from __future__ import annotations

import json
import statistics
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from docs.generate.models import ROOT, filled

FILE = ROOT / "docs" / "results.json"
CONFIGS = "pipelines/configs"
Figure = Mapping[str, Any]
"""A measured configuration: table, config, model (as a reader calls it), values and errors by metric, seconds."""

LISTS = "lists-ml1m"
"""How the names of the tables of MovieLens-1M's lists begin."""
COLUMNS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "ratings": (("rmse", "test RMSE, mean ± sd"), ("mae", "MAE")),
    LISTS: (
        ("ndcg@10", "nDCG@10"),
        ("truncated_recall@10", "truncated recall@10"),
        ("recall@20", "recall@20"),
        ("ndcg@100", "nDCG@100"),
        ("coverage@10", "coverage@10"),
    ),
    "lists-gowalla": (("recall@20", "recall@20"), ("ndcg@20", "nDCG@20"), ("coverage@20", "coverage@20")),
    "lists-citeulike": (("recall@20", "recall@20"), ("ndcg@20", "nDCG@20"), ("recall@100", "recall@100")),
}
"""Metrics of the tables whose name begins so, the deciding one first, with their headings."""
TABLES = (
    *("ratings-ml1m", "ratings-ml100k", "ratings-douban"),
    *(f"{LISTS}-{family}" for family in ("variational", "regularized", "autorec", "linear", "refit")),
    *("lists-gowalla", "lists-citeulike"),
)

README: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "MovieLens-1M, random 90/10, RMSE, 3 seeds",
        "rmse",
        (
            ("iautorec-ml1m", "0.831"),
            ("iautorec-normalized-ml1m", ""),
            ("sparsefc-ml1m", "0.824"),
            ("uautorec-ml1m", "0.874"),
        ),
    ),
    (
        "MovieLens-1M, 80/10/10 per user, nDCG@10",
        "ndcg@10",
        (
            ("rdlae-ml1m-infae", ""),
            ("deql-ml1m-infae", ""),
            ("ease-ml1m-infae", "0.299"),
            ("infiniteae-ml1m-infae", "0.328"),
            ("recvae-ml1m-infae", ""),
            ("multvae-ml1m-infae", "0.221"),
        ),
    ),
    (
        "Gowalla, LightGCN's split, recall@20",
        "recall@20",
        (("edlae-gowalla", ""), ("ease-gowalla", "0.1765")),
    ),
)
"""What the README shows: data, metric, and configurations with the figure that was published for the model."""


@cache
def read() -> dict[str, Any]:
    """Return the file: `figures`, and `compared`, the text that `recsys compare` wrote, by name."""
    return dict(json.loads(FILE.read_text(encoding="utf-8")))


def write(content: Mapping[str, Any]) -> None:
    """Write the file, with a line for each figure."""
    figures = ",\n  ".join(json.dumps(figure, ensure_ascii=False) for figure in content["figures"])
    compared = json.dumps(content.get("compared", {}), ensure_ascii=False, indent=1)
    FILE.write_text(f'{{"figures": [\n  {figures}\n ],\n "compared": {compared}\n}}\n', encoding="utf-8")
    read.cache_clear()


def columns(table: str) -> tuple[tuple[str, str], ...]:
    """Return the metrics of a table with their headings."""
    return next(found for start, found in COLUMNS.items() if table.startswith(start))


def mean(figure: Figure, metric: str) -> float:
    """Return the mean over the seeds."""
    return statistics.fmean(figure["values"][metric])


def sorted_figures(table: str) -> list[Figure]:
    """Return the figures of a table, the best first."""
    metric, sign = columns(table)[0][0], 1 if table.startswith("ratings") else -1
    found = [figure for figure in read()["figures"] if figure["table"] == table]
    return sorted(found, key=lambda figure: sign * mean(figure, metric))


def table(name: str) -> str:
    """Return a table of results.md."""
    metrics, ratings = columns(name), name.startswith("ratings")
    seeds, published = (["by seed"], ["published"]) if ratings else ([], [])
    (_, first), *others = metrics
    heads = ["model", first, *seeds, *(head for _, head in others), *published, "time", "measured", "command"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 2)}---|"]
    for figure in sorted_figures(name):
        cells = [figure["model"], _value(figure, metrics[0][0], bold=True)]
        if ratings:
            cells.append(", ".join(f"{value:.4f}" for value in figure["values"]["rmse"]))
        cells += [_value(figure, metric) for metric, _ in metrics[1:]]
        if ratings:
            cells.append(f"{figure['published']:.3f}" if "published" in figure else "")
        lines.append(f"| {' | '.join([*cells, _time(figure['seconds']), figure['measured'], _command(figure)])} |")
    return "\n".join(lines)


def _value(figure: Figure, metric: str, *, bold: bool = False) -> str:
    if metric not in figure["values"]:
        return ""
    value = f"{mean(figure, metric):.3f}" if metric.startswith("coverage") else f"{mean(figure, metric):.4f}"
    seeds = figure["values"][metric]
    error = statistics.stdev(seeds) if len(seeds) > 1 else figure["errors"].get(metric)
    shown = error is not None and (bold or metric == "ndcg@20")
    return (f"**{value}**" if bold else value) + (f" ± {error:.4f}" if shown else "")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _command(figure: Figure) -> str:
    options = "".join(f" --set {option}" for option in figure.get("set", ()))
    return f"`recsys train {CONFIGS}/{figure['config']}.toml{options}`"


@cache
def model_of(config: str) -> str:
    """Return the name of the class that a configuration trains."""
    return str(tomllib.loads((ROOT / CONFIGS / f"{config}.toml").read_text(encoding="utf-8"))["model"]["name"])


def compared(name: str) -> dict[str, float]:
    """Return the deciding metric of each model in a comparison, from the table that `recsys compare` wrote."""
    rows = [line.strip("| ").split(" | ") for line in read().get("compared", {}).get(name, "").splitlines()]
    return {
        cells[0]: float(cells[1].strip("*")) for cells in rows if len(cells) > 5 and cells[0] not in ("model", "---")
    }


def measured() -> str:
    """Return the table of docs/models.md: the best figure of each model on each data set."""
    best: dict[str, list[float | None]] = {}
    sets: tuple[tuple[str, str, Callable[[Iterable[float]], float]], ...] = (
        (LISTS, "ndcg@10", max),
        ("ratings-ml1m", "rmse", min),
        ("lists-gowalla", "recall@20", max),
        ("lists-gowalla", "ndcg@20", max),
    )
    for place, (start, metric, choose) in enumerate(sets):
        found: dict[str, list[float]] = {}
        for figure in read()["figures"]:
            if figure["table"].startswith(start):
                found.setdefault(model_of(figure["config"]), []).append(mean(figure, metric))
        if start == LISTS:
            for name, value in compared("ml-1m-infae").items():
                found.setdefault(name, []).append(value)
        for name, values in found.items():
            best.setdefault(name, [None] * len(sets))[place] = choose(values)
    lines = ["| model | MovieLens-1M nDCG@10 | MovieLens-1M RMSE | Gowalla |", "|---|--:|--:|--:|"]
    for name, places in sorted(best.items(), key=lambda item: _order(item[1])):
        lists, ratings, recall, ndcg = (("" if value is None else f"{value:.4f}") for value in places)
        lines.append(f"| `{name}` | {lists} | {ratings} | {recall}{' / ' if ndcg else ''}{ndcg} |")
    return "\n".join(lines)


def _order(values: Sequence[float | None]) -> tuple[float, float]:
    lists, ratings = values[:2]
    return (-1.0 if lists is None else -lists, 9.0 if ratings is None else ratings)


def overview() -> str:
    """Return the table of README.md."""
    by_config = {figure["config"]: figure for figure in read()["figures"] if "set" not in figure}
    lines = ["| data, protocol | model | measured | published |", "|---|---|--:|--:|"]
    for data, metric, rows in README:
        ordered = sorted(rows, key=lambda row: mean(by_config[row[0]], metric) * (1 if metric == "rmse" else -1))
        for number, (config, published) in enumerate(ordered):
            figure = by_config[config]
            cells = (data if number == 0 else "", figure["model"], f"{mean(figure, metric):.4f}", published)
            lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def pages(texts: Mapping[Path, str]) -> dict[Path, str]:
    """Return the pages with their tables; `texts` holds those that were made of something else before."""
    results, models, readme = ROOT / "docs" / "results.md", ROOT / "docs" / "models.md", ROOT / "README.md"
    made = {page: texts.get(page) or page.read_text(encoding="utf-8") for page in (results, models, readme)}
    for name in TABLES:
        made[results] = _filled(made[results], name, table(name))
    for name, text in read().get("compared", {}).items():
        made[results] = _filled(made[results], f"compared {name}", text.strip())
    made[models] = _filled(made[models], "measured", measured())
    made[readme] = _filled(made[readme], "measured", overview())
    return made


def _filled(text: str, name: str, content: str) -> str:
    return filled(text, f"<!-- {name}: made by make docs -->", f"<!-- /{name} -->", content)

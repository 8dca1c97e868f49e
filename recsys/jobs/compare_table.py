"""The table of a comparison: values, what each model was given to reach them, and verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any

import pandas as pd

from recsys.config import JobConfig
from recsys.config.sections import RESERVED
from recsys.evaluation import Comparison, Evaluation, intervals
from recsys.jobs.baseline import Baseline
from recsys.models.spaces import shown

Facts = dict[str, Any]
"""What a model's `done.json` holds: `model`, `validation`, `trials`, `hyperparameters` and more; `search_seconds` of
all its trials, and `final_seconds` of training the best setting, testing it and writing its report."""
_STARTS = {
    "configuration": "that of its configuration, which may have been chosen before",
    "defaults": "the model's defaults",
    "sample": "sampled, as the others are",
}


def is_searched(job: JobConfig) -> bool:
    """Return whether a comparison searches hyperparameters of this job."""
    return job.tune is not None and bool(job.space)


def markdown(
    scores: pd.DataFrame,
    evaluations: Mapping[str, Evaluation],
    facts: Mapping[str, Facts],
    comparison: Comparison,
    jobs: Mapping[str, JobConfig],
    shape: tuple[int, int],
    baseline: Baseline,
) -> str:
    """Return the table, with intervals for the deciding metric, the budget, and a verdict on each pair of neighbors.

    Args:
        scores: sorted by that metric.
        comparison: on that metric alone.
        shape: of the data, users and items.
        baseline: the last row, unless it is among the models; it takes no part in the comparison.
    """
    order, metric = list(scores.index), str(comparison.pairs["metric"].iloc[0])
    others = [name for name in scores.columns.unique(0) if name != metric]
    columns = ["model", metric, "interval", *others, "validation", "trials", "search", "final training"]
    lines = [
        f"Test part of {shape[0]:,} users × {shape[1]:,} items; 95 % bootstrap intervals over users.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|--:|---|{'--:|' * (len(columns) - 3)}",
    ]
    for name in order:
        value, low, high = intervals(evaluations[name].only([metric])).iloc[0][["value", "low", "high"]]
        bold = "**" if name == order[0] else ""
        validation = [f"{chosen:.4f}" for chosen in facts[name]["validation"].values()] or ["–"]
        measured = [f"{scores.loc[name, (other, 'value')]:.4f}" for other in others]
        cells = [name, f"{bold}{value:.4f}{bold}", f"{low:.4f}–{high:.4f}", *measured, validation[0]]
        lines.append(f"| {' | '.join([*cells, *_spent(facts[name])])} |")
    if baseline.title not in {fact["model"] for fact in facts.values()}:
        known = [f"{baseline.values[name]:.4f}" for name in (metric, *others)]
        lines.append(f"| {' | '.join([f'*{baseline.title}*', known[0], '–', *known[1:], *4 * ['–']])} |")
    lines += ["", *_budget([jobs[name] for name in order]), "", *(f"- {name}: {_given(jobs[name])}" for name in order)]
    pairs = zip(comparison.pairs["better"], comparison.pairs["worse"], strict=True)
    verdicts = {frozenset(pair): verdict for pair, verdict in zip(pairs, comparison.verdicts(), strict=True)}
    lines += ["", "Each model and the next one in the table, Holm's correction over all pairs:", ""]
    lines += [f"- {verdicts[frozenset(neighbors)]}" for neighbors in pairwise(order)]
    return "\n".join(lines) + "\n"


def _spent(facts: Facts) -> list[str]:
    """Return the cells of what a model took: number and time of its trials, and the time of its final training."""
    trials, search, final = facts["trials"], facts.get("search_seconds"), facts.get("final_seconds")
    shown_search = f"{search:.0f} s" if trials and search is not None else "–"
    return [str(trials or "–"), shown_search, "–" if final is None else f"{final:.0f} s"]


def _budget(jobs: list[JobConfig]) -> Iterator[str]:
    """Yield what all searches were given alike, and what their times are."""
    search = next((job.search() for job in jobs if is_searched(job)), None)
    if search is None:
        yield "Nothing was searched: every model was trained once, as its configuration says."
        return
    minutes = "" if search.minutes is None else f" or {search.minutes:g} minutes, whichever ends first"
    yield f"Budget of each search: {search.trials} trials{minutes}. Trials that were pruned or failed count."
    yield f"The first setting is {_STARTS[search.start or 'configuration']}."
    yield "Then the best setting is trained once more, tested and reported: that is the final training with its time."
    yield "What was searched, and what configurations set beside it:"


def _given(job: JobConfig) -> str:
    """Return what was searched for a model, and which hyperparameters its configuration sets."""
    space = job.space if is_searched(job) else {}
    names = ", ".join(f"`{name}` {shown(values)}" for name, values in space.items())
    if not space:
        what = "not searched" if job.space else "nothing to search"
    elif space == job.declared_space():
        what = f"the space that the model declares ({names})"
    else:
        what = f"a space of its configuration's own ({names})"
    given = {name: value for name, value in job.model.items() if name not in (*RESERVED, *space)}
    fixed = ", ".join(f"`{name}` = {value}" for name, value in given.items())
    return f"{what}{f'; set: {fixed}' if fixed else ''}"

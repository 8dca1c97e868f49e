"""From a table to lists for everyone, by one command: understand it, train what suits it, score with the best."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from recsys import tracking
from recsys.errors import RecsysError, TrackingError
from recsys.evaluation import formatted, table
from recsys.jobs.first_models import Suited
from recsys.jobs.first_plan import Plan, plan_for
from recsys.jobs.origin import name_of_run
from recsys.jobs.train import Trained, train_one
from recsys.jobs.train_files import forget
from recsys.metrics import higher_is_better
from recsys.models import Popularity
from recsys.scoring import ScoringResult, check_output, score
from recsys.workspace import Workspace, as_path

ALIAS = "champion"
_BY = "recsys run: "
"""With what the reason of this job's champions begins."""


@dataclass(frozen=True, eq=False)
class Ran:
    """What came of a table."""

    model: str
    """Address of the best model, `models:/NAME/VERSION`; with the alias `champion`, if no other command gave that."""
    table: pd.DataFrame
    """The test metrics of every model, with standard errors, the best on the validation part marked by `chosen`."""
    validation: dict[str, float]
    """What each model reached on the validation part, by which the best was chosen."""
    lists: ScoringResult
    plan: Plan = field(repr=False)
    """How the table was understood."""


def run(
    workspace: Workspace,
    events: str | Path,
    output: str | Path,
    *,
    items: str | Path | None = None,
    n: int = 10,
    settings: Sequence[str] = (),
) -> Ran:
    """Train models that suit a table, give the best on the validation part the alias `champion`, and score everyone.

    A champion that another command has chosen, such as a night or a contest, keeps the alias.

    Models that suit the table's size are trained beside Popularity on one split, each in an MLflow run of its own, and
    registered unless they test worse than Popularity. Killed, the same call goes on: what was trained stays. Called
    again on the same table it trains nothing, and leaves complete lists as they are.

    Args:
        events: file or folder of interactions.
        output: folder of the lists, as `recsys score` writes them, with titles where they are known.
        items: a table with a row per item: titles, and columns that become features.
        n: length of each list.
        settings: `section.key=value`, in place of what was found.

    Raises:
        ConfigError: a setting is wrong.
        DataError: a table cannot be read, or something must be said that it does not tell; nothing is trained then.
        ScoringError: `output` is or holds what no scoring job has written; nothing is trained then.
        TrackingError: the models could not be registered.
    """
    began = time.perf_counter()
    events, output = as_path(events), as_path(output)
    check_output(output)
    tracking.check(workspace)
    plan = plan_for(events, None if items is None else as_path(items), settings)
    print(f"{events}\n{plan}\n")
    trained = _train(workspace, plan)
    metric = plan.job(plan.models[0].section).train.metric
    best = _best(trained, metric)
    chosen, registered = trained[best], trained[best].registered
    if registered is None:
        raise TrackingError(f"the models could not be registered: {tracking.trouble(workspace)}; see recsys sync")
    reason = f"best validation {metric} of {len(trained)}: {chosen.validation[metric]:.4f}"
    holds = _give_alias(plan.name, registered.version, reason)
    uri = f"models:/{plan.name}@{ALIAS}" if holds else registered.uri
    histories, seen = plan.sources.histories
    lists = score(
        chosen.model,
        histories,
        output,
        n=n,
        seen=seen,
        titles=chosen.model.titles_ is not None,
        data_id=plan.sources.identity,
        model_uri=registered.uri,
        asked_uri=uri,
        show_progress=workspace.progress,
    )
    figures = table({name: one.test for name, one in trained.items()}, sort_by=metric)
    validation = {name: one.validation[metric] for name, one in trained.items()}
    if workspace.in_words:
        print(f"\nTest part, mean ± standard error\n{formatted(figures).to_string()}")
    _tell(workspace, plan, trained, (best, uri), lists, time.perf_counter() - began)
    if not holds:
        print(
            f"{ALIAS!r} of {plan.name!r} stays where it is, since another command gave it; recsys promote {plan.name} "
            f"--challenger {registered.version} compares the two"
        )
    return Ran(registered.uri, figures, validation, lists, plan)


def _give_alias(name: str, version: int, reason: str) -> bool:
    """Give a version the alias, unless its holder has it from another command, where it may have been earned."""
    holder = next((one.version for one in tracking.model_versions(name) if ALIAS in one.aliases), None)
    if holder not in (None, version) and not tracking.version_tags(name, holder).get(f"{ALIAS}_reason", "").startswith(
        _BY
    ):
        return False
    tracking.promote(name, version, ALIAS, f"{_BY}{reason}", instead_of=holder)
    return True


def _train(workspace: Workspace, plan: Plan) -> dict[str, Trained]:
    """Train Popularity and the models of the plan; one that cannot be trained here is left out, with the reason."""
    sources, trained = plan.sources, {}
    popular = Suited({"name": Popularity.__name__}, "what every model must beat")
    jobs = {suited.section["name"]: (suited, plan.job(suited.section).repeat(0)) for suited in (popular, *plan.models)}
    for name, (suited, job) in jobs.items():
        try:
            job.check_memory(sources.split.train)
        except RecsysError as error:
            if len(plan.models) == 1:
                raise
            print(f"{name:<12} left out: {error}")
            continue
        print(f"{name:<12} {suited.reason}", flush=True)
        trained[name] = train_one(workspace, job, sources.split, sources.data, run_name=name_of_run(job))
        # The run's own file stays, by which the same command finds the model again; checkpoints are of no use now.
        forget(trained[name].files[:-1])
        metric = job.train.metric
        print(f"{'':<12} validation {metric} {trained[name].validation[metric]:.4f}", flush=True)
    return trained


def _best(trained: dict[str, Trained], metric: str) -> str:
    """Return the model that is best on the validation part, of those that the registry takes."""
    sign = 1.0 if higher_is_better(metric) else -1.0
    able = {name: one for name, one in trained.items() if not one.refused}
    return max(able, key=lambda name: sign * able[name].validation[metric])


def _tell(
    workspace: Workspace,
    plan: Plan,
    trained: dict[str, Trained],
    found: tuple[str, str],
    lists: ScoringResult,
    seconds: float,
) -> None:
    """Print the honest number, where everything is, and what to do next."""
    best, uri = found
    chosen, popular = trained[best], trained[Popularity.__name__]
    metric = plan.job(plan.models[0].section).train.metric
    value, base = chosen.test[metric], popular.test[metric]
    times = f", {value / base:.1f} times as much" if base > 0 else ""
    print(f"\nkept      {best}, the best on the validation part; on the test part, which chose nothing,")
    print(f"          {metric} {value:.4f}, Popularity {base:.4f}{times if best != Popularity.__name__ else ''}")
    if best == Popularity.__name__:
        print("          no model beats the most popular items here: more data, or other values, may change that")
    for name, one in trained.items():
        if one.refused:
            print(f"          {name} is not registered: it tests worse than Popularity")
    user = shlex.quote(str(plan.sources.data.users.ids([0])[0]))
    more = f"{' --items ' + shlex.quote(plan.items.options['items']) if plan.items.options else ''}{workspace.option}"
    file = shlex.quote(plan.recognized.file)
    state = "already complete" if lists.already_complete else "written"
    print(f"lists     {lists.output}: {lists.users:,} users, {lists.rows:,} rows, {state}")
    print(f"runs      {tracking.describe(workspace)}")
    print(f"next      recsys recommend {uri} --user {user}{workspace.option}")
    print(f"          recsys init {file}{more}   writes all this as a file, to change, train and run each night")
    print(f"done in {seconds:.0f} s")

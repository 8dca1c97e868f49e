"""Compare models fairly: one split, one tuning budget, one look at the test part, one table."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from recsys import report, tracking
from recsys.config import JobConfig
from recsys.errors import ConfigError, OutputError
from recsys.evaluation import Comparison, Evaluation, compare, table
from recsys.files import sha256_of_json
from recsys.interactions import Interactions
from recsys.jobs.baseline import Baseline
from recsys.jobs.common import split_of
from recsys.jobs.compare_folder import EVALUATION, compare_folder
from recsys.jobs.compare_table import Facts, is_searched, markdown
from recsys.jobs.origin import dated
from recsys.jobs.parts_folder import PartsFolder, is_name
from recsys.jobs.train import train_one
from recsys.jobs.train_files import files_of, forget
from recsys.jobs.tune import as_toml, with_search
from recsys.metrics import of
from recsys.splits import Split
from recsys.tuning import check_extra, tune
from recsys.workspace import Workspace, output_folder


@dataclass(frozen=True, eq=False)
class Compared:
    """The result of a comparison, and where it was written."""

    table: pd.DataFrame
    """`recsys.evaluation.table` of all models."""
    comparison: Comparison
    output: Path


def run(
    workspace: Workspace,
    configs: Mapping[str, JobConfig],
    output: Path,
    *,
    metric: str | None = None,
    trials: int | None = None,
    minutes: float | None = None,
) -> Compared:
    """Tune and train every model on the same parts, test each once, and report which differ.

    A configuration with a `[tune]` section is searched first, and so is every one if `trials` or `minutes` is given:
    each over the space that its model declares or its section names, with the same number of trials and the same time
    (`trials` and `minutes`, or those of the sections, which must agree). The first trial has the model's defaults, and
    no search begins from a value that its configuration has from an earlier one, unless `tune.start` says so. Then the
    best setting is trained and tested. Finished models stay in `output`: the same command after an interruption
    continues with those that are missing.

    Args:
        configs: the jobs, by the name that the table shows.
        output: folder of `table.md`, `table.csv`, `pairs.csv`, the figures, one folder per model, and `_manifest.json`,
            which lists them; new, empty, or that of an earlier comparison. A link to a folder is followed.
        metric: sorts the table, and is tested and drawn; `train.metric` of the first by default.

    Raises:
        ConfigError: fewer than two models, sections that differ, budgets that differ, a search without the extra
            `tune`, another process is comparing in `output`, or it is or holds what no comparison has written.
    """
    jobs = _checked(configs, trials, minutes)
    folder = compare_folder(output_folder(output, OutputError))
    folder.check_early()
    tracking.check(workspace)
    first = next(iter(jobs.values()))
    metric = metric or first.train.metric
    _check_metric(metric, first)
    with folder.locked():
        scores, comparison, text = _run(workspace, jobs, folder, metric)
    if workspace.in_words:
        print(f"\n{text}")
    print(f"written  {output}")
    print(f"runs     {tracking.describe(workspace)}")
    return Compared(scores, comparison, output)


def _run(
    workspace: Workspace, jobs: Mapping[str, JobConfig], folder: PartsFolder, metric: str
) -> tuple[pd.DataFrame, Comparison, str]:
    """Return the table, the comparison, and both as text."""
    first = next(iter(jobs.values()))
    data = first.load_data(workspace.folder)
    split = split_of(first.repeat(0), data)
    for name, job in jobs.items():
        if _finished(job, data, folder, name) is None:
            job.repeat(0).check_memory(split.train, searched=True)
    print(f"{data}\ntrain {split.train}, test {split.test}")
    folder.begin(list(jobs), tracking.version("recsys"))
    digests = {name: _digest(job, data) for name, job in jobs.items()}
    resume = tracking.resume_file(workspace, "compare", str(folder.folder), digests, metric)
    title = dated(f"compare {len(jobs)} models on {first.data.name}")
    tags = {tracking.NOTE: f"{', '.join(jobs)}: each tuned and tested alike, its runs below; `{metric}` decides."}
    with tracking.start_run(workspace, first.track.experiment, title, tags, resume=resume) as tracker:
        tracker.log_data(data)
        evaluations: dict[str, Evaluation] = {}
        facts: dict[str, Facts] = {}
        for number, (name, job) in enumerate(jobs.items(), 1):
            evaluations[name], facts[name] = _result(workspace, name, job, split, data, folder)
            print(f"{number}/{len(jobs)}  {name:<24} test {metric} {evaluations[name][metric]:.4f}")
        scores = table(evaluations, sort_by=metric)
        comparison = compare(evaluations, metric)
        fitted_on = split.refit() if first.train.refit else split.train
        baseline = Baseline.of(workspace, first, split, fitted_on, tuple(scores.columns.unique(0)))
        text = markdown(scores, evaluations, facts, comparison, jobs, data.shape, baseline)
        flat = scores.set_axis([key[0] if key[1] == "value" else " ".join(key) for key in scores.columns], axis=1)
        pairs = comparison.pairs.to_csv(index=False)
        for file, content in {"table.md": text, "table.csv": flat.to_csv(), "pairs.csv": pairs}.items():
            with folder.file(file) as new:
                new.write_text(content, encoding="utf-8")
            tracker.log_text(content, file)
        figure = report.comparison(evaluations, metric)
        with folder.file("comparison.png") as image:
            figure.savefig(image, dpi=150)
        tracker.log_figure(figure, "comparison.png")
        tracker.log_metrics({f"{name} {metric}": evaluation[metric] for name, evaluation in evaluations.items()})
    return scores, comparison, text


def _finished(job: JobConfig, data: Interactions, folder: PartsFolder, name: str) -> Facts | None:
    """Return the facts of a model that was finished by the same job on the same data, by the same version."""
    facts, version = folder.finished(name), tracking.version("recsys")
    same = facts is not None and facts.get("digest") == _digest(job, data) and facts.get("recsys", version) == version
    return facts if same else None


def _digest(job: JobConfig, data: Interactions) -> str:
    return sha256_of_json([{k: v for k, v in job.as_dict().items() if k != "track"}, data.fingerprint()])


def _result(
    workspace: Workspace, name: str, job: JobConfig, split: Split, data: Interactions, folder: PartsFolder
) -> tuple[Evaluation, Facts]:
    """Return a model's test result: read from its folder if it is finished, else tuned, trained and tested."""
    if (facts := _finished(job, data, folder, name)) is not None:
        with suppress(OSError, ValueError, KeyError, pa.ArrowException):  # damaged, and trained again
            evaluation = Evaluation(*(pd.read_parquet(folder.part(name) / file) for file in EVALUATION))
            model = {"name": job.model["name"], **facts["hyperparameters"]}
            forget(files_of(workspace, _unregistered(job.repeat(0).model_copy(update={"model": model})), data))
            return evaluation, facts
    given, job, tuned = job, job.repeat(0), None
    if is_searched(job):
        # Within the budget: an earlier search by `recsys tune` may have made more trials than this one may.
        tuned = tune(workspace, job, split, fingerprint=data.fingerprint(), within_budget=True, run_name=f"tune {name}")
        job = tuned.job
    began = time.perf_counter()
    trained = train_one(workspace, _unregistered(job), split, data, run_name=name)
    facts = {
        "digest": _digest(given, data),
        "recsys": tracking.version("recsys"),
        "model": type(trained.model).__name__,
        "validation": trained.validation,
        "trials": 0 if tuned is None else len(tuned.trials),
        "search_seconds": 0.0 if tuned is None else float(tuned.trials["seconds"].sum()),
        "final_seconds": time.perf_counter() - began,
        "run": trained.run_id,
        "hyperparameters": {key: value for key, value in job.model.items() if key != "name"},
    }
    with folder.writing(name, facts) as new:
        trained.test.per_user.to_parquet(new / "per_user.parquet")
        trained.test.summary.to_parquet(new / "summary.parquet")
        if tuned is not None:
            tuned.trials.to_csv(new / "trials.csv", index=False)
            (new / "best.toml").write_text(as_toml(job), encoding="utf-8")
    trained.done()
    return trained.test, facts


def _unregistered(job: JobConfig) -> JobConfig:
    """Return the job with nothing to register: a comparison's last model would pass for the newest challenger."""
    return job.model_copy(update={"track": job.track.model_copy(update={"register_as": None})})


def _checked(configs: Mapping[str, JobConfig], trials: int | None, minutes: float | None) -> dict[str, JobConfig]:
    if len(configs) < 2:
        raise ConfigError(f"name at least two configurations to compare, got {len(configs)}")
    jobs = {}
    for name, config in configs.items():
        if not is_name(name):
            raise ConfigError(f"{name!r} cannot name a folder, as a model in a comparison must; set track.run_name")
        jobs[name] = _with_search(config, trials, minutes)
        jobs[name].check()
    (first, shared), *others = jobs.items()
    for name, job in others:
        for section in ("data", "split", "evaluate"):
            if getattr(job, section) != getattr(shared, section):
                raise ConfigError(
                    f"[{section}] of {name} and of {first} differ, so their figures would measure different things; "
                    "make the sections equal"
                )
        if job.train.refit != shared.train.refit:
            raise ConfigError(f"train.refit of {name} and of {first} differ: one would be trained on more entries")
    searches = {name: job.search() for name, job in jobs.items() if is_searched(job)}
    if searches:
        check_extra()
    budgets = {name: (search.trials, search.minutes) for name, search in searches.items()}
    if len(set(budgets.values())) > 1:
        shown = ", ".join(f"{name} {budget}" for name, budget in budgets.items())
        raise ConfigError(f"the searches have different budgets (trials, minutes): {shown}; give --trials or --minutes")
    starts = {name: search.start for name, search in searches.items()}
    if len(set(starts.values())) > 1:
        shown = ", ".join(f"{name} {start}" for name, start in starts.items())
        raise ConfigError(f"the searches begin differently (tune.start): {shown}; make them equal")
    return jobs


def _with_search(config: JobConfig, trials: int | None, minutes: float | None) -> JobConfig:
    """Return the configuration with its search written out, if it asks for one or a budget is given for all."""
    if not config.space or (config.tune is None and trials is None and minutes is None):
        return config
    search = with_search(config, trials, minutes).search()
    start = (config.tune and config.tune.start) or "defaults"
    return config.model_copy(update={"tune": search.model_copy(update={"start": start})})


def _check_metric(metric: str, job: JobConfig) -> None:
    if not of(metric).per_user:
        raise ConfigError(
            f"{metric} has no value per user, so pairs cannot be tested on it; choose another with --metric"
        )
    names = job.evaluate.metrics
    if names is not None and metric not in names:
        raise ConfigError(f"{metric} is not among evaluate.metrics ({', '.join(names)}); add it, or choose another")
    if names is None and of(metric).rates:
        raise ConfigError(f"name {metric} under evaluate.metrics: by default only lists are measured")

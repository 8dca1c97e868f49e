"""Analyze a saved model: run analyses one after another, into one page and a table of each figure."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from recsys import datasets, tracking
from recsys.analysis import ANALYSES, Findings, Subject
from recsys.columns import USER
from recsys.config import JobConfig
from recsys.errors import ConfigError, DataError, UnsupportedError, did_you_mean, warn
from recsys.files import sha256_of_json
from recsys.frames import column_of
from recsys.ids import IdMap
from recsys.jobs.common import config_of, fitted_part, load_model, split_of
from recsys.jobs.evaluate import split_for
from recsys.jobs.parts_folder import Layout, PartsFolder
from recsys.models import Recommender
from recsys.models.stored import part_of
from recsys.report.markup import Markup, note, tag
from recsys.report.page import document
from recsys.scoring.local import model_checksum
from recsys.shards import in_memory
from recsys.splits import Split
from recsys.tracking.tracker import digest
from recsys.workspace import Workspace, output_folder

PAGE: Final = "analysis.html"
"""The page of all analyses of a folder."""


def _is_done(facts: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is what the job writes of an analysis."""
    kinds = {"digest": str, "title": str, "summary": str, "metrics": dict, "content": list, "seconds": float}
    if not all(isinstance(facts.get(key), kind) for key, kind in kinds.items()):
        return False
    return all(isinstance(value, float) for value in facts["metrics"].values()) and all(
        isinstance(markup, str) for markup in facts["content"]
    )


LAYOUT: Final = Layout(
    what="the output of an analysis",
    part="an analysis",
    busy="analyzing",
    files=(PAGE,),
    group="analyses",
    is_part_file=lambda name: name.endswith(".parquet") and not name.startswith("."),
    is_done=_is_done,
)


@dataclass(frozen=True, eq=False)
class Analyzed:
    """What was found, and where it was written."""

    findings: Mapping[str, Mapping[str, Any]]
    """Of each analysis: `title`, `summary`, `metrics`, `content` and `seconds`."""
    skipped: Mapping[str, str]
    """Why an analysis that nobody asked for by its name was left out."""
    output: Path


def run(
    workspace: Workspace,
    model: str,
    output: Path,
    *,
    what: Sequence[str] | None = None,
    users: Path | None = None,
    seed: int = 0,
) -> Analyzed:
    """Run analyses of a saved model on the data and split that it was trained with.

    Finished analyses stay in `output`: the same command after an interruption continues with those that are missing.

    Args:
        output: folder of `analysis.html`, of a folder per analysis with its tables as Parquet, and of
            `_manifest.json`, which lists them; new, empty, or that of an earlier analysis.
        what: names of `recsys.analysis.ANALYSES`; by default all that the model can answer.
        users: csv or Parquet with a column `user_id` and further ones, such as age and gender.
        seed: of everything that is drawn.

    Raises:
        ConfigError: an unknown name, another process is analyzing in `output`, or it is or holds what no analysis has
            written.
        UnsupportedError: the model lacks what an analysis needs that was asked for by its name.
        DataError: the data are not those of the training, or no user of the table of users is in them.
    """
    names = _names(what)
    folder = PartsFolder(output_folder(output, ConfigError), LAYOUT)
    folder.check_early()
    fitted, pinned = load_model(workspace, model)
    config = config_of(fitted, model)
    data = config.load_data(workspace.folder)
    split = _as_fitted(fitted, split_for(fitted, split_of(config, data)), pinned)
    split = replace(split, train=in_memory(split.train))
    columns = None if users is None else _columns(users, data.users)
    subject = Subject(model=fitted, split=split, users=columns, seed=seed)
    identity = _digest(fitted, split, columns, seed)
    print(f"{type(fitted).__name__} on {split.train}, test {split.test}")
    with folder.locked():
        title = f"analyze {pinned}"
        resume = tracking.resume_file(workspace, "analyze", str(folder.folder), identity, names)
        folder.begin(names, tracking.version("recsys"))
        note = f"What {pinned} says beyond recommendations; all of it is the artifact `{PAGE}`."
        tags = {"model": pinned, tracking.NOTE: note}
        with tracking.start_run(workspace, config.track.experiment, title, tags, resume=resume) as tracker:
            found, skipped = _all(subject, folder, names, identity, named=what is not None)
            page = _page(config, fitted, pinned, found, skipped)
            with folder.file(PAGE) as new:
                new.write_text(page, encoding="utf-8")
            tracker.log_text(page, PAGE)
            for name, facts in found.items():
                tracker.log_metrics({f"{name}_{metric}": value for metric, value in facts["metrics"].items()})
                for table in sorted(folder.part(name).glob("*.parquet")):
                    tracker.log_frame(pd.read_parquet(table), f"{name}/{table.name}")
    print(f"written  {output / PAGE}\nruns     {tracking.describe(workspace)}")
    return Analyzed(found, skipped, output)


def _names(what: Sequence[str] | None) -> list[str]:
    """Return the names of the analyses in the order of the page."""
    unknown = next((name for name in what or () if name not in ANALYSES), None)
    if unknown is not None:
        known = ", ".join(ANALYSES)
        raise ConfigError(f"unknown analysis {unknown!r} (known: {known}){did_you_mean(unknown, ANALYSES)}")
    return [name for name in ANALYSES if what is None or name in what]


def _columns(path: Path, known: IdMap) -> pd.DataFrame:
    """Return the columns of a table of users, with the ids that the data have as its index."""
    table = datasets.read_users(path)
    codes = known.codes_of(IdMap(column_of(table, USER)), "user")
    inside = codes >= 0
    if not inside.any():
        raise DataError(f"no user of {path} is in the data, whose ids are like {next(iter(known))!r}")
    if not inside.all():
        warn(f"{int((~inside).sum()):,} of the {len(table):,} users of {path} are not in the data")
    index = pd.Index(known.ids(codes[inside]), name=USER)
    return table.drop(columns=USER)[inside].set_axis(index, axis=0)


def _as_fitted(model: Recommender, split: Split, uri: str) -> Split:
    """Return the split with the entries that the model was fitted to as its training part, as after a refit.

    Raises:
        DataError: they are not those of the split.
    """
    train, trained = fitted_part(model, split), part_of(model.about_, "trained_on")
    if not trained:
        warn(f"{uri} does not say what it was trained on; what is said of training users is said of this split's")
    elif trained.get("fingerprint") != train.fingerprint():
        raise DataError(
            f"the training part of this split is not what {uri} was trained on: data or split have changed since; "
            "analyze it with those of its training, or train it again"
        )
    return split if train is split.train else replace(split, train=train, validation=None)


def _digest(model: Recommender, split: Split, columns: pd.DataFrame | None, seed: int) -> str:
    """Return what tells whether a finished analysis is that of the same model, data and users."""
    users = None if columns is None else [list(columns), pd.util.hash_pandas_object(columns).tolist()]
    parts = [split.train.fingerprint(), digest(split.test, split.train.items)]
    return sha256_of_json([model_checksum(model), parts, users, seed, tracking.version("recsys")])


def _all(
    subject: Subject, folder: PartsFolder, names: Sequence[str], identity: str, *, named: bool
) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Return what each analysis found, finished earlier or now, and why some were left out."""
    found: dict[str, Mapping[str, Any]] = {}
    skipped: dict[str, str] = {}
    for number, name in enumerate(names, 1):
        facts = folder.finished(name)
        if facts is None or facts["digest"] != identity:
            try:
                facts = _one(subject, folder, name, identity)
            except UnsupportedError as error:
                if named:
                    raise
                skipped[name] = str(error)
                print(f"{number}/{len(names)}  {name:<12} left out: {error}")
                continue
        found[name] = facts
        print(f"{number}/{len(names)}  {name:<12} {facts['summary']}  ({facts['seconds']:.1f} s)")
    return found, skipped


def _one(subject: Subject, folder: PartsFolder, name: str, identity: str) -> dict[str, Any]:
    """Run an analysis and write what it found."""
    began = time.perf_counter()
    findings: Findings = ANALYSES[name].findings(subject)
    facts = {
        "digest": identity,
        "title": findings.title,
        "summary": findings.summary,
        "metrics": {metric: float(value) for metric, value in findings.metrics.items() if np.isfinite(value)},
        "content": [str(markup) for markup in findings.content],
        "seconds": time.perf_counter() - began,
    }
    with folder.writing(name, facts) as new:
        for table, frame in findings.tables.items():
            frame.to_parquet(new / f"{table}.parquet")
    return facts


def _page(
    config: JobConfig,
    model: Recommender,
    uri: str,
    found: Mapping[str, Mapping[str, Any]],
    skipped: Mapping[str, str],
) -> str:
    """Return the page of all analyses."""
    sections: list[tuple[str, str, Sequence[Markup]]] = [
        (name, facts["title"], [tag("p", facts["summary"], class_="lead"), *map(Markup, facts["content"])])
        for name, facts in found.items()
    ]
    if skipped:
        reasons = [note(tag("b", name), f": {reason}") for name, reason in skipped.items()]
        sections.append(("skipped", "Left out", reasons))
    data = config.data.name or config.data.file
    title = f"Analysis of {type(model).__name__}" + (f" on {data}" if data else "")
    return document(title, [note("Model ", tag("code", uri))], sections)

"""What a job leaves, as lines to compare: files, runs, versions, aliases, studies; ids by names, times left out."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import pyarrow as pa
import pyarrow.parquet as pq

from tests.crashes.boxes import FOLDER, Box, Tree

Lines = Counter[str]
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d[0-9.:+Z]*)?")
_UNTOLD_TAGS = ("recsys.run", "resumed", "mlflow.parentRunId", "mlflow.source.git.commit", "mlflow.log-model.history")
_UNTOLD_KEYS = {
    "seconds",
    "search_seconds",
    "final_seconds",
    "started",
    "finished",
    "run_id",
    "run",
    "checksum",
    "sha256",
    "finished_at",
    "config.json",
}
COURSE = ("status", "steps", "reason")
"""What the summary of a night says of what this call did, which need not be all that the night did."""
_MODEL_STATUS = {0: "UNSPECIFIED", 1: "PENDING", 2: "READY", 3: "UPLOAD_FAILED"}
_WORDS = {
    "run": "runs",
    "version": "registry",
    "alias": "registry",
    "registered": "registry",
    "model": "logged models",
    "path": "files left or missing",
    "content": "contents",
    "study": "study",
    "temporary": "temporary files",
    "outcome": "outcome in the summary",
    "course": "course in the summary",
}
"""The kind of a difference, by the first word of its line."""


@dataclass
class State:
    """What is in a box, comparable with another box of the same job."""

    lines: Lines = field(default_factory=Counter)
    failed: Lines = field(default_factory=Counter)
    """Of runs that ended as FAILED, and their models."""


def kind_of(line: str) -> str:
    """Return to which kind of difference a line belongs."""
    if " RUNNING" in line:
        return "run left RUNNING"
    return _WORDS.get(line.partition(" ")[0], "other")


def collect(box: Box) -> State:
    """Return what is in the box now."""
    tree = box.capture()
    root = box.path / "root"
    state, names, failed = State(), dict[str, str](), set[str]()
    database = root / "mlruns" / "mlflow.db"
    if database.is_file():
        with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as store:
            _store(store, state, names, failed)
        store.close()
    studies = root / "mlruns" / "studies.db"
    if studies.is_file():
        with sqlite3.connect(f"file:{studies}?mode=ro", uri=True) as store:
            state.lines.update(_studies(store))
        store.close()
    for line, of_failed in _files(box, tree, names, failed):
        (state.failed if of_failed else state.lines)[line] += 1
    return state


def _rows(store: sqlite3.Connection, query: str, *values: Any) -> list[tuple[Any, ...]]:
    try:
        return store.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise


def _store(store: sqlite3.Connection, state: State, names: dict[str, str], failed: set[str]) -> None:
    """Read runs, logged models and the registry; fill the names of their ids, and the ids of failed runs."""
    runs = _rows(
        store,
        "SELECT run_uuid, r.name, status, r.lifecycle_stage, e.name, end_time IS NOT NULL, r.experiment_id "
        "FROM runs r JOIN experiments e ON e.experiment_id = r.experiment_id ORDER BY r.start_time",
    )
    # A run that nobody named is called by model, data and the minute of its beginning.
    runs = [(run, _TIME.sub("TIME", name), *rest) for run, name, *rest in runs]
    for run, name, status, *_ in runs:
        names[run] = f"<{name}>"
        if status == "FAILED":
            failed.add(run)
    for run, name, status, stage, experiment, ended, _ in runs:
        lines = state.failed if run in failed else state.lines
        lines[f"run {name}: of {experiment}, {status}, {stage}, {'ended' if ended else 'no end'}"] += 1
        lines.update(f"run {name}: {line}" for line in _of_run(store, run, names))
    for model, name, status, stage, run in _rows(
        store, "SELECT model_id, name, status, lifecycle_stage, source_run_id FROM logged_models"
    ):
        if run in failed:
            failed.add(model)
        if stage == "deleted":  # nobody sees it; its files count as left
            names[model] = f"<deleted {name} of {names.get(run, 'no run')[1:-1]}>"
            continue
        names[model] = f"<{name} of {names.get(run, 'no run')[1:-1]}>"
        lines = state.failed if run in failed else state.lines
        lines[f"model {names[model]}: {_MODEL_STATUS.get(status, status)}, {stage}"] += 1
        lines.update(f"model {names[model]}: {line}" for line in _of_model(store, model))
    state.lines.update(f"experiment {row[0]}" for row in _rows(store, "SELECT name FROM experiments"))
    state.lines.update(_registry(store, names))


def _of_run(store: sqlite3.Connection, run: str, names: dict[str, str]) -> Iterator[str]:
    yield from (
        f"param {key} = {value}" for key, value in _rows(store, "SELECT key, value FROM params WHERE run_uuid = ?", run)
    )
    for key, value in _rows(store, "SELECT key, value FROM tags WHERE run_uuid = ?", run):
        if key not in _UNTOLD_TAGS:
            yield f"tag {key} = {_TIME.sub('TIME', value or '')}"
        elif key == "mlflow.parentRunId":
            yield f"child of {names.get(value, 'nothing')}"
    for table in ("metrics", "latest_metrics"):
        for key, value, step in _rows(store, f"SELECT key, value, step FROM {table} WHERE run_uuid = ?", run):
            yield f"{table} {key} step {step}{'' if _is_time(key) else f' = {value:.12g}'}"
    for source, kind in _rows(
        store,
        "SELECT d.name || ' ' || d.digest, i.source_type FROM inputs i JOIN datasets d "
        "ON d.dataset_uuid = i.source_id WHERE i.destination_id = ?",
        run,
    ):
        yield f"input {kind} {source}"
    outputs = _rows(
        store,
        "SELECT count(*) FROM inputs JOIN logged_models ON model_id = destination_id "
        "WHERE source_id = ? AND destination_type = 'MODEL_OUTPUT' AND lifecycle_stage = 'active'",
        run,
    )
    yield f"{outputs[0][0] if outputs else 0} models logged"


def _of_model(store: sqlite3.Connection, model: str) -> Iterator[str]:
    for key, value in _rows(store, "SELECT tag_key, tag_value FROM logged_model_tags WHERE model_id = ?", model):
        yield f"tag {key} = {value}"
    for key, value in _rows(store, "SELECT param_key, param_value FROM logged_model_params WHERE model_id = ?", model):
        yield f"param {key} = {value}"
    for key, value, step in _rows(
        store, "SELECT metric_name, metric_value, metric_step FROM logged_model_metrics WHERE model_id = ?", model
    ):
        yield f"metric {key} step {step}{'' if _is_time(key) else f' = {value:.12g}'}"


def _registry(store: sqlite3.Connection, names: dict[str, str]) -> Iterator[str]:
    yield from (f"registered {name}" for (name,) in _rows(store, "SELECT name FROM registered_models"))
    for name, version, status, run, source, note in _rows(
        store, "SELECT name, version, status, run_id, source, description FROM model_versions"
    ):
        source = names.get(source.removeprefix("models:/"), "an unknown model")
        yield f"version {name}/{version}: {status}, of {names.get(run, 'no run')}, {source}"
        yield from (f"version {name}/{version}: note: {line}" for line in _untimed(note or "").splitlines() if line)
    for name, version, key, value in _rows(store, "SELECT name, version, key, value FROM model_version_tags"):
        yield f"version {name}/{version}: tag {key} = {_untimed(_TIME.sub('TIME', value or ''))}"
    for name, version, alias in _rows(store, "SELECT name, version, alias FROM registered_model_aliases"):
        yield f"alias {name}@{alias} -> {version}"


def _studies(store: sqlite3.Connection) -> Iterator[str]:
    yield from (f"study {name}" for (name,) in _rows(store, "SELECT study_name FROM studies"))
    for trial, number, status in _rows(store, "SELECT trial_id, number, state FROM trials"):
        yield f"study trial {number}: {status}"
        for name, value in _rows(store, "SELECT param_name, param_value FROM trial_params WHERE trial_id = ?", trial):
            yield f"study trial {number}: param {name} = {value}"
        for (value,) in _rows(store, "SELECT value FROM trial_values WHERE trial_id = ?", trial):
            yield f"study trial {number}: value {value:.12g}"


def _is_time(key: str) -> bool:
    return "seconds" in key or key.startswith("system/")


def _untimed(text: str) -> str:
    """Return a note without measured durations."""
    return re.sub(r"\d[\d.,]*(e-?\d+)? ?(ms|s|times|µs)\b", "DURATION", text)


def _files(box: Box, tree: Tree, names: dict[str, str], failed: set[str]) -> Iterator[tuple[str, bool]]:
    """Yield a line for each path, and for each content that must be the same; with whether a failed run has it."""
    for name, what in tree.items():
        parts = name.split("/")
        of_failed = not failed.isdisjoint(parts)
        shown = "/".join(_named(part, names) for part in parts)
        if name.startswith("tmp/"):
            if len(parts) == 2 and not parts[1].startswith("torchinductor_"):  # torch's own, which it keeps
                yield f"temporary {shown}", False
            continue
        if name == "root/mlruns/pending":  # empty where all was sent
            continue
        if "/code/" in shown:  # what is copied of this package need not be told apart
            shown = shown.partition("/code/")[0] + "/code/..."
        yield f"path {shown}{'/' if what == FOLDER else ''}", of_failed
        if what != FOLDER:
            yield from ((line, of_failed) for line in _content(name, shown, box.content(what)))


def _named(part: str, names: dict[str, str]) -> str:
    if part in names:
        return names[part]
    if re.fullmatch(r"(m-)?[0-9a-f]{32}", part):
        return "<unknown>"
    part = re.sub(r"^(\.?)[0-9a-f]{32}(?=\.)", r"\1<digest>", part)
    part = re.sub(r"(?<=^\.artifact\.uploading\.).*", "RANDOM", part)
    return re.sub(r"(\.(?:recsys-)?)[0-9a-f]{8}(?=\.|$)", r"\1RANDOM", part)


def _content(name: str, shown: str, content: bytes) -> Iterator[str]:
    """Yield what of a file must be the same after every such job."""
    suffix = Path(name).suffix
    if suffix == ".onnx":
        yield f"content {shown}: {_weights(content)}"
    if suffix in (".safetensors", ".parquet", ".csv", ".md", ".toml"):
        timeless = _without_seconds(content, suffix) if Path(name).stem == "trials" else content
        if suffix == ".md":
            timeless = _untimed(content.decode(errors="replace")).encode()
        yield f"content {shown}: {hashlib.sha256(timeless).hexdigest()[:16] if content else 'EMPTY'}"
    if suffix != ".json" or "/code/" in name or "/checkpoints/" in name:  # which hold ids of runs
        return
    try:
        value = _told(json.loads(content))
    except ValueError:
        yield f"content {shown}: DAMAGED"
        return
    if "/nightly/" in name:
        for key, inner in value.items():
            word = "course" if key in COURSE else "outcome"
            for part, leaf in inner.items() if isinstance(inner, dict) else (("", inner),):
                yield f"{word} {shown}: {key} {part} = {json.dumps(leaf)}"
        return
    text = json.dumps(value, sort_keys=True)
    yield f"content {shown}: {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _weights(content: bytes) -> str:
    """Return a digest of a graph's weights; how it was traced is not told."""
    try:
        graph = onnx.load_from_string(content).graph
    except Exception:  # that of protobuf's parser, which has a class of its own in each of its versions
        return "DAMAGED"
    tensors = sorted(hashlib.sha256(tensor.raw_data).hexdigest() for tensor in graph.initializer)
    return hashlib.sha256("".join(tensors).encode()).hexdigest()[:16] if tensors else "EMPTY"


def _without_seconds(content: bytes, suffix: str) -> bytes:
    """Return a table of trials as text, without the column of durations; damaged ones as they are."""
    try:
        if suffix == ".parquet":
            table = pq.read_table(io.BytesIO(content), use_threads=False)
            rows = table.drop_columns(["seconds"]).to_pylist() if "seconds" in table.column_names else []
        else:
            rows = [{**row, "seconds": ""} for row in csv.DictReader(io.StringIO(content.decode()))]
    except (OSError, ValueError, pa.ArrowException):
        return content
    return repr(rows).encode()


def _told(value: Any) -> Any:
    """Return a JSON value without times and ids."""
    if isinstance(value, dict):
        return {key: _told(inner) for key, inner in value.items() if key not in _UNTOLD_KEYS}
    if isinstance(value, list):
        return [_told(inner) for inner in value]
    if isinstance(value, str):
        return _untimed(_TIME.sub("TIME", value))
    return value


@dataclass(frozen=True)
class Difference:
    """What a job left that it should not have, and the other way round."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra)

    @property
    def of_paths_alone(self) -> bool:
        """Whether files were left, and nothing else is wrong."""
        return all(line.startswith(("path ", "content ")) for line in self.extra) and not self.missing

    @property
    def kinds(self) -> list[str]:
        """The kinds of what differs, the gravest first."""
        order = ["run left RUNNING", *dict.fromkeys(_WORDS.values()), "other"]
        found = {kind_of(line) for line in (*self.missing, *self.extra)}
        return [kind for kind in order if kind in found]

    def first(self, count: int = 4) -> list[str]:
        """Return differing lines: of each kind the first that should not be there, and the first that is missing."""
        shown = []
        for kind in self.kinds:
            for what, lines in (("extra", self.extra), ("missing", self.missing)):
                shown += [f"{what}: {line}" for line in lines if kind_of(line) == kind][:1]
        return shown[:count]


def difference(expected: State, found: State, *, with_failed: bool = False) -> Difference:
    """Compare what was found with what an undisturbed job leaves.

    Args:
        with_failed: runs that ended as FAILED may be there in addition.
    """
    lines = found.lines if with_failed else found.lines + found.failed
    wanted = expected.lines if with_failed else expected.lines + expected.failed
    missing = sorted((wanted - lines).elements())
    extra = sorted((lines - wanted).elements())
    return Difference(tuple(missing), tuple(extra))

"""The tracking store and its model registry at a glance, and their housekeeping.

All raise TrackingError where there is no store, or no such model or version.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import pandas as pd

from recsys import tracking
from recsys.errors import TrackingError, absent
from recsys.workspace import Workspace


def list_models(workspace: Workspace) -> pd.DataFrame:
    """Print and return every version: `model, version, aliases, class, created, decision`, newest first."""
    tracking.configure(workspace, create=False)
    rows = []
    for name in tracking.registered_names():
        for version in tracking.model_versions(name):
            facts = tracking.version_facts(name, version.version)
            tags = facts["tags"]
            cells = version.version, ", ".join(version.aliases), tags.get("model", ""), facts["created"]
            rows.append((name, *cells, tags.get("champion_decision", "")))
    frame = pd.DataFrame(rows, columns=["model", "version", "aliases", "class", "created", "decision"])
    if workspace.in_words:
        print(frame.to_string(index=False) if len(frame) else "nothing is registered")
    return frame


def show(workspace: Workspace, name: str, version: int | None = None) -> dict[str, Any]:
    """Print and return the facts of a version: by default of the champion, or of the newest without a champion."""
    tracking.configure(workspace, create=False)
    if version is None:
        versions = tracking.model_versions(name)
        if not versions:
            raise absent(TrackingError(f"model {name!r} has no versions"))
        version = next((v.version for v in versions if "champion" in v.aliases), versions[0].version)
    facts = tracking.version_facts(name, version)
    if workspace.in_words:
        _print_facts(name, version, facts)
    return facts


def facts_table(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the facts of a version as rows `what, name, value`."""
    single = [("version", key, value) for key, value in facts.items() if key not in _TABLES]
    several = [(what, key, value) for what in _TABLES for key, value in sorted(facts[what].items())]
    return [dict(zip(("what", "name", "value"), row, strict=True)) for row in single + several]


_TABLES = ("tags", "params", "metrics")


def _print_facts(name: str, version: int, facts: Mapping[str, Any]) -> None:
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    print(f"models:/{name}/{version}{aliases}, {facts['created']}, run {facts['run']}")
    for title in _TABLES:
        print(f"\n{title}")
        for key, value in sorted(facts[title].items()):
            print(f"  {key:<32} {value:.4f}" if isinstance(value, float) else f"  {key:<32} {value}")
    if facts["description"]:
        print(f"\n{facts['description']}")


def diff(workspace: Workspace, name: str, one: int, other: int) -> pd.DataFrame:
    """Print and return the parameters and metrics that differ between two versions: `what, name, <one>, <other>`."""
    tracking.configure(workspace, create=False)
    left, right = (tracking.version_facts(name, version) for version in (one, other))
    rows = [
        (what, key, left[what].get(key), right[what].get(key))
        for what in ("params", "metrics")
        for key in sorted(left[what] | right[what])
        if left[what].get(key) != right[what].get(key)
    ]
    frame = pd.DataFrame(rows, columns=["what", "name", f"version {one}", f"version {other}"])
    if not workspace.in_words:
        return frame
    if len(frame):
        print(frame.map(_cell).to_string(index=False))
    else:
        print(f"versions {one} and {other} of {name!r} do not differ")
    return frame


def _cell(value: Any) -> str:
    if pd.isna(value):
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def prune(workspace: Workspace, name: str, *, keep: int, delete: bool = False) -> list[int]:
    """Delete all but the newest `keep` of the versions without an alias, and return the numbers of those deleted.

    Their files go too, unless another version or another run needs them; the runs stay, with metrics and reports.
    Versions with an alias stay, and so does the one that a rollback would go back to. What a prune that was interrupted
    has left is removed first. Without `delete` nothing is deleted; what would be is printed and returned.

    Raises:
        TrackingError: a version stays because its folder holds something that is not the model's; the others are done.
    """
    tracking.configure(workspace, create=False)
    versions = [version.version for version in tracking.model_versions(name)]
    needed = tracking.needed_versions(name)
    superfluous = [number for number in versions if number not in needed][keep:]
    done = []
    for pruned in tracking.prune(workspace, name, superfluous, delete=delete):
        print(_in_words(pruned, delete))
        done.append(pruned)
    if not done:
        print(f"nothing to delete: {len(versions)} versions, {len(needed)} of them needed, {keep} more to keep")
    else:
        freed = _megabytes(sum(pruned.freed for pruned in done))
        print(f"{freed} freed" if delete else f"nothing was deleted; add --yes to delete this and free {freed}")
    kept = [f"{pruned.uri} stays: {pruned.kept}" for pruned in done if pruned.kept]
    if kept and delete:
        raise TrackingError(kept[0] + (f" (and {len(kept) - 1} more, see above)" if len(kept) > 1 else ""))
    return [pruned.version for pruned in done if pruned.version is not None and not pruned.kept]


def _in_words(pruned: tracking.Pruned, delete: bool) -> str:
    if pruned.kept:
        return f"{'kept' if delete else 'would keep'} {pruned.uri}: {pruned.kept}"
    what = f"{'deleted' if delete else 'would delete'} "
    if pruned.version is None:
        files = f"the files of {pruned.uri}, which an earlier prune left"
        return f"{files}, stay: {pruned.stays}" if pruned.stays else f"{what}{files}, {_megabytes(pruned.freed)}"
    stays = f"; its files stay: {pruned.stays}" if pruned.stays else f", {_megabytes(pruned.freed)}"
    return f"{what}{pruned.uri}{stays}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def ui(workspace: Workspace, port: int = 5000) -> None:
    """Open MLflow's pages on the project's store; this process becomes the server."""
    uri = tracking.configure(workspace, create=False)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    print(f"http://127.0.0.1:{port}  ({uri})", flush=True)
    os.execv(sys.executable, command)


def sync(workspace: Workspace) -> list[tracking.Synced]:
    """Send the events that wait in `mlruns/pending`, and print what was sent; a TrackingError if some still wait."""
    results = tracking.sync(workspace)
    for stranger in tracking.strangers(workspace):
        print(f"{stranger} is no queue of unsent events and stays as it is; delete it or move it elsewhere")
    for result in results:
        print(f"{result.name}: {result.sent} events sent to run {result.run_id or '(none yet)'}")
        for model in result.registered:
            print(f"  registered  {model.uri}")
        if result.waiting:
            print(f"  {result.waiting} events still wait: {result.reason}")
    if not results:
        print("nothing waits")
    if left := sum(result.waiting for result in results):
        raise TrackingError(f"{left} events still wait")
    return results

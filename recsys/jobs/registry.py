"""The tracking store and its model registry at a glance, and their housekeeping."""

from __future__ import annotations

import os
import sys
from typing import Any

import pandas as pd

from recsys import tracking
from recsys.errors import TrackingError
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
    print(frame.to_string(index=False) if len(frame) else "nothing is registered")
    return frame


def show(workspace: Workspace, name: str, version: int | None = None) -> dict[str, Any]:
    """Print and return the facts of a version: by default of the champion, or of the newest without a champion.

    Raises:
        TrackingError: no such model or version.
    """
    tracking.configure(workspace, create=False)
    if version is None:
        versions = tracking.model_versions(name)
        if not versions:
            raise TrackingError(f"model {name!r} has no versions")
        version = next((v.version for v in versions if "champion" in v.aliases), versions[0].version)
    facts = tracking.version_facts(name, version)
    aliases = f" ({', '.join(facts['aliases'])})" if facts["aliases"] else ""
    print(f"models:/{name}/{version}{aliases}, {facts['created']}, run {facts['run']}")
    for title in ("tags", "params", "metrics"):
        print(f"\n{title}")
        for key, value in sorted(facts[title].items()):
            print(f"  {key:<32} {value:.4f}" if isinstance(value, float) else f"  {key:<32} {value}")
    if facts["description"]:
        print(f"\n{facts['description']}")
    return facts


def diff(workspace: Workspace, name: str, one: int, other: int) -> pd.DataFrame:
    """Print and return the parameters and metrics that differ between two versions: `what, name, <one>, <other>`.

    Raises:
        TrackingError: no such model or version.
    """
    tracking.configure(workspace, create=False)
    left, right = (tracking.version_facts(name, version) for version in (one, other))
    rows = [
        (what, key, left[what].get(key), right[what].get(key))
        for what in ("params", "metrics")
        for key in sorted(left[what] | right[what])
        if left[what].get(key) != right[what].get(key)
    ]
    frame = pd.DataFrame(rows, columns=["what", "name", f"version {one}", f"version {other}"])
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

    Versions with an alias stay, and so does the one that a rollback would go back to. Without `delete` nothing is
    deleted; what would be is printed and returned.

    Raises:
        TrackingError: no such model.
    """
    tracking.configure(workspace, create=False)
    versions = tracking.model_versions(name)
    needed = {version.version for version in versions if version.aliases}
    for version in versions:
        for alias in version.aliases:
            previous = tracking.version_tags(name, version.version).get(f"{alias}_previous", "")
            needed |= {int(previous)} if previous else set()
    superfluous = [version.version for version in versions if version.version not in needed][keep:]
    for number in superfluous:
        if delete:
            tracking.delete_version(name, number)
        print(f"{'deleted' if delete else 'would delete'} models:/{name}/{number}")
    if not superfluous:
        print(f"nothing to delete: {len(versions)} versions, {len(needed)} of them needed, {keep} more to keep")
    elif not delete:
        print("nothing was deleted; add --yes to do it")
    return superfluous


def ui(workspace: Workspace, port: int = 5000) -> None:
    """Open MLflow's pages on the project's store; this process becomes the server.

    Raises:
        TrackingError: there is no store.
    """
    uri = tracking.configure(workspace, create=False)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    print(f"http://127.0.0.1:{port}  ({uri})", flush=True)
    os.execv(sys.executable, command)


def sync(workspace: Workspace) -> list[tracking.Synced]:
    """Send the events that wait in `mlruns/pending`, and print what was sent to which run.

    Raises:
        TrackingError: the server does not answer, or events still wait.
    """
    results = tracking.sync(workspace)
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

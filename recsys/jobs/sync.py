"""Send the tracking server what it could not receive while trainings ran."""

from __future__ import annotations

from recsys import tracking
from recsys.errors import TrackingError
from recsys.workspace import Workspace


def run(workspace: Workspace) -> list[tracking.Synced]:
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
    left = sum(result.waiting for result in results)
    if left:
        raise TrackingError(f"{left} events still wait")
    return results

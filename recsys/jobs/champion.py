"""What the model in use has reached on the same test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys import tracking
from recsys.config import JobConfig
from recsys.errors import TrackingError
from recsys.splits import Split
from recsys.workspace import Workspace


def champion_beside(
    job: JobConfig, split: Split, metrics: Sequence[str], *, own: str, workspace: Workspace | None = None
) -> tuple[str, Mapping[str, float]] | None:
    """Return what a report calls the champion that a model may follow, and the champion's figures by metric.

    They are those that the champion's run has recorded, and count only where its test part was this one, entry by
    entry. None without a champion, where it was tested on something else, and where the store does not answer.

    Args:
        job: with which the model was trained; it names the registered model where the address does not.
        own: address of the model, such as `models:/NAME/VERSION`; a champion is not held against itself.
        workspace: whose store is asked; None: that of the run that goes on, which has been asked before.
    """
    name = own.removeprefix("models:/").rpartition("/")[0] if own.startswith("models:/") else job.track.register_as
    if name is None:
        return None
    try:
        if workspace is not None:
            tracking.configure(workspace, create=False)
        holder = next((found for found in tracking.versions_if_any(name) if "champion" in found.aliases), None)
        if holder is None or holder.run_id is None or own == holder.uri or own.startswith(f"runs:/{holder.run_id}/"):
            return None
        values = tracking.test_figures(holder.run_id, split, metrics, job.evaluate.min_relevance)
    except TrackingError:  # a report is made without what it could be held against
        return None
    return (f"version {holder.version}, the champion", values) if values else None

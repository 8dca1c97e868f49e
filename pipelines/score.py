"""Write the recommendations of all users as Parquet.

python pipelines/score.py models:/nightly@champion data/scored/tonight

`recsys score` does the same, and takes a list of users and other data.
"""

import sys
from pathlib import Path

from recsys import Workspace, score, tracking
from recsys.config import check_config
from recsys.scoring import ScoringResult


def score_all(workspace: Workspace, uri: str, output: Path) -> ScoringResult:
    tracking.configure(workspace, create=False)
    # An alias may move while we work; the version that it stands for now does not.
    version = tracking.pin(uri)
    model = tracking.load(version)

    # The data are read as for training, but users with few interactions get recommendations too. `seen` holds what
    # users have rated too low to be read by the model: it is not recommended again.
    histories, seen = check_config(model.about_["config"]).data.histories(workspace.folder)

    # The folder appears when all parts are written; if this is killed, the next call continues after the last part.
    result = score(
        model,
        histories,
        output,
        n=10,
        seen=seen,
        model_uri=version,
        asked_uri=uri,
        show_progress=workspace.progress,
    )
    print(f"{result.users:,} users, {result.rows:,} rows in {result.output}")
    return result


if __name__ == "__main__":
    uri = sys.argv[1] if len(sys.argv) > 1 else "models:/nightly@champion"
    workspace = Workspace()
    score_all(workspace, uri, Path(sys.argv[2]) if len(sys.argv) > 2 else workspace.scored / "tonight")

"""A night's work: train a challenger, let it earn the champion's place, and score all users with the champion.

python pipelines/nightly.py pipelines/configs/nightly.toml

`recsys nightly` does the same, and skips steps whose inputs have not changed, measures drift, and writes a summary for
a scheduler.
"""

import sys
from pathlib import Path

from recsys import Workspace, score, tracking
from recsys.config import JobConfig, load_config
from recsys.jobs.contest import contest, enter
from recsys.jobs.train import train_one
from recsys.scoring import ScoringResult


def night(workspace: Workspace, config: JobConfig) -> ScoringResult:
    name = config.track.register_as
    if name is None:
        sys.exit("nightly needs a name for the model in the registry: set track.register")
    job = config.repeat(0)
    data = job.load_data(workspace.folder)
    split = job.split.split(data)

    # Who is champion is looked up before the training, which may take hours.
    tracking.configure(workspace)
    versions = tracking.versions_if_any(name)
    holder = next((version for version in versions if "champion" in version.aliases), None)

    # One MLflow run: fit, choose on validation, test once, register. `train.py` shows what happens in it.
    trained = train_one(workspace, job, split, data, run_name=job.model["name"])
    trained.done()
    challenger = trained.registered
    if challenger is None:
        sys.exit("the model could not be registered: the tracking server does not answer; see recsys sync")

    # A challenger must be better for certain, the more so the more contests the year has seen, and must not break a
    # guard-rail such as coverage; where there is no champion yet it must beat Popularity.
    champion = None if holder is None else tracking.load(holder.uri)
    rule = job.promote.for_metric(job.train.metric)
    names = (holder.uri if holder else "Popularity", challenger.uri)
    place = enter(name, challenger.version, None if holder is None else holder.version, rule, data)
    decision = contest(workspace, trained.model, champion, job, split, rule, names=names, place=place)
    print(decision.markdown())
    if decision.earned:
        before = None if holder is None else holder.version
        tracking.promote(name, challenger.version, reason=decision.reason, instead_of=before)
        champion, holder = trained.model, challenger
    if champion is None or holder is None:
        sys.exit(f"there is no champion to score with: {decision.reason}")

    # All users get recommendations, also those with too few interactions to be trained on.
    histories, seen = job.data.histories(workspace.folder)
    output = workspace.scored / name
    result = score(champion, histories, output, seen=seen, model_uri=holder.uri, show_progress=workspace.progress)
    print(f"{holder.uri} recommended to {result.users:,} users: {result.output}")
    return result


if __name__ == "__main__":
    file = sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "configs" / "nightly.toml"
    night(Workspace(), load_config(file))

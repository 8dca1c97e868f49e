"""Let the newest version of a registered model challenge the champion, and promote it if it has earned that.

python pipelines/promote.py nightly

`recsys promote NAME --challenger` does the same, and writes the whole decision to the version; `recsys promote NAME`
promotes without a contest.
"""

import sys

from recsys import Workspace, tracking
from recsys.config import check_config
from recsys.jobs.contest import contest, enter
from recsys.promotion import Decision


def challenge(workspace: Workspace, name: str) -> Decision:
    tracking.configure(workspace, create=False)
    newest, *_ = versions = tracking.model_versions(name)
    holder = next((version for version in versions if "champion" in version.aliases), None)
    if newest == holder:
        sys.exit(f"{newest.uri} is the champion already")
    challenger = tracking.load(newest.uri)
    champion = None if holder is None else tracking.load(holder.uri)

    # Both are tested on the users that the challenger's split has held out. The champion may be older, and know other
    # users and items; `contest` translates between them, and refuses a model that was trained on the test users.
    job = check_config(challenger.about_["config"])
    data = job.load_data(workspace.folder)
    split = job.split.split(data)
    rule = job.promote.for_metric(job.train.metric)
    names = (holder.uri if holder else "Popularity", newest.uri)
    place = enter(name, newest.version, None if holder is None else holder.version, rule, data)
    decision = contest(workspace, challenger, champion, job, split, rule, names=names, place=place)
    print(decision.markdown())

    # `instead_of` makes sure that nobody else has moved the alias during the contest.
    if decision.earned:
        before = None if holder is None else holder.version
        tracking.promote(name, newest.version, reason=decision.reason, instead_of=before, note=decision.markdown())
        print(f"{newest.uri} is the champion now")
    return decision


if __name__ == "__main__":
    challenge(Workspace(), sys.argv[1] if len(sys.argv) > 1 else "nightly")

"""Give the alias `champion` back to the version that held it before.

python pipelines/rollback.py nightly

`recsys rollback` does the same, for any alias.
"""

import sys

from recsys import Workspace, tracking


def rollback(workspace: Workspace, name: str) -> tracking.Promotion:
    tracking.configure(workspace, create=False)
    # Every promotion writes the previous holder to the version, so nothing needs to be named here. Jobs that score
    # with models:/NAME@champion use the older version from their next start on.
    back = tracking.rollback(name)
    print(f"models:/{back.name}@{back.alias} is now version {back.version} (was {back.previous})")
    return back


if __name__ == "__main__":
    rollback(Workspace(), sys.argv[1] if len(sys.argv) > 1 else "nightly")

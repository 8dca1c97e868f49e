"""Print the recommendations of a few users by title.

python pipelines/recommend.py models:/nightly@champion 1 2 3

`recsys recommend` does the same, and shows what each user liked.
"""

import sys

import pandas as pd

from recsys import Workspace, recommend_frame, tracking
from recsys.config import check_config


def recommend(workspace: Workspace, uri: str, users: list[str]) -> pd.DataFrame:
    tracking.configure(workspace, create=False)
    model = tracking.load(uri)
    histories, seen = check_config(model.about_["config"]).data.histories(workspace.folder)

    # Ids come from the command line as text; those of the data may be integers.
    ids = [histories.users.parse(user) for user in users]
    frame = recommend_frame(model, histories, ids, n=10, seen=seen)

    # Titles are stored with the model, in the order of its own item numbers.
    if model.titles_ is not None:
        frame["title"] = model.titles_[model.items_.codes(frame["item_id"])]
    print(frame.to_string(index=False))
    return frame


if __name__ == "__main__":
    uri = sys.argv[1] if len(sys.argv) > 1 else "models:/nightly@champion"
    recommend(Workspace(), uri, sys.argv[2:] or ["1", "2", "3"])

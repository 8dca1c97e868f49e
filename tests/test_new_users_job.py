"""New users in the jobs: a table of them beside the data, in lists on the screen and in files."""

import json

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import cli
from recsys.errors import RecsysError
from recsys.jobs import serve
from recsys.workspace import Workspace

KINDS = ["shoes", "hats", "bags"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(90), 8)
    bought = rng.integers(0, 20, len(users)) * 3 + users % 3  # everyone buys of one kind
    events = pd.DataFrame({"customer": users, "item_id": bought}).drop_duplicates()
    events.to_csv(folder / "events.csv", index=False)
    likes = pd.DataFrame({"customer": np.arange(90), "likes": [KINDS[n % 3] for n in range(90)]})
    likes.to_csv(folder / "users.csv", index=False)
    pd.DataFrame({"customer": [901, 902], "likes": ["hats", "bags"]}).to_csv(folder / "new.csv", index=False)
    (folder / "job.toml").write_text(f"""
[data]
file = "{folder / "events.csv"}"
user = "customer"
users = "{folder / "users.csv"}"

[split]
kind = "hold_out_ratings"

[model]
name = "WithUserFeatures"
model = {{ name = "EASE", regularization = 1.0 }}
columns = {{ likes = "category" }}

[train]
refit = true

[track]
register = "shop"
""")
    assert cli.main(["train", str(folder / "job.toml"), "--root", str(folder), "--quiet", "--force"]) == 0
    return folder


def test_scores_hold_users_without_a_history(shop):
    command = ["score", "models:/shop/1", "--root", str(shop), "--quiet", "-n", "5", "--output", str(shop / "lists")]
    assert cli.main([*command, "--users-table", str(shop / "new.csv")]) == 0
    lists = pd.read_parquet(shop / "lists")
    assert lists["user_id"].nunique() == 92
    assert (lists.loc[lists["user_id"] == 901, "item_id"] % 3 == 1).all()
    assert (lists.loc[lists["user_id"] == 902, "item_id"] % 3 == 2).all()


def test_recommend_says_that_there_is_no_history(shop, capsys):
    command = ["recommend", "models:/shop/1", "--user", "901", "-n", "4", "--root", str(shop)]
    assert cli.main(command) == 4
    assert "901" in capsys.readouterr().err
    assert cli.main([*command, "--users-table", str(shop / "new.csv")]) == 0
    assert "by features of the user" in capsys.readouterr().out
    assert cli.main([*command, "--users-table", str(shop / "new.csv"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["item_id"] % 3 for row in rows] == [1] * 4


def test_what_cannot_work_is_said(shop, tmp_path, capsys):
    data = recsys.datasets.read(shop / "events.csv", user="customer")
    recsys.EASE(regularization=1.0).fit(data, show_progress=False).save(tmp_path / "m")
    (tmp_path / "e.csv").write_text("user_id,item_id\n1,2\n3,4\n")
    command = ["score", str(tmp_path / "m"), "--data", str(tmp_path / "e.csv"), "--output", str(tmp_path / "o")]
    (tmp_path / "new.csv").write_text("user_id,likes\n7,hats\n")
    assert cli.main([*command, "--users-table", str(tmp_path / "new.csv"), "--root", str(tmp_path)]) == 2
    assert "or train WithUserFeatures with data.users" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("customer,age\n901,30\n")
    command = ["recommend", "models:/shop/1", "--user", "901", "--root", str(shop)]
    assert cli.main([*command, "--users-table", str(tmp_path / "other.csv")]) == 3
    assert "the table of users has no column likes" in capsys.readouterr().err
    assert cli.main([*command, "--users-table", str(tmp_path / "gone.csv")]) == 4
    assert "expected a table of users at" in capsys.readouterr().err


def test_lists_need_no_table_of_the_training_s_users(shop, capsys):
    """What a model knows of its users it has learned: a night on another machine may not have the table."""
    (shop / "users.csv").rename(shop / "elsewhere.csv")
    try:
        command = ["recommend", "models:/shop/1", "--user", "1", "-n", "4", "--root", str(shop)]
        assert cli.main(command) == 0
        assert "recommended (score)" in capsys.readouterr().out
        again = ["score", "models:/shop/1", "--root", str(shop), "--quiet", "--output", str(shop / "without")]
        assert cli.main([*again, "--users-table", str(shop / "new.csv")]) == 0
        assert pd.read_parquet(shop / "without")["user_id"].nunique() == 92
    finally:
        (shop / "elsewhere.csv").rename(shop / "users.csv")


def test_parts_of_no_users_are_refused(shop):
    with pytest.raises(RecsysError, match="batch_size"):
        serve.score(Workspace(shop), "models:/shop/1", shop / "none", batch_size=0)

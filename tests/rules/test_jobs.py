"""Rules on the command line, in a night and in a served model."""

import json

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import tracking
from recsys.cli import main
from recsys.config import load_config
from recsys.models import EASE
from recsys.rules import Rules
from recsys.workspace import Workspace

CONFIG = """
[data]
file = "plays.csv"
min_rating = 3.0
binary = true

[split]
kind = "hold_out_users"
n_users = 0.2

[model]
name = "EASE"
regularization = 100.0

[track]
register = "shop"

[rules]
allow = "stock > 0"
at_most = {brand = 2}
items = "items.csv"
"""


@pytest.fixture
def shop(mlflow_root):
    """The working folder, with plays, a table of items and a configuration; and the table by item."""
    data = recsys.datasets.synthetic(400, 200, 12000, seed=1)
    data.to_frame().to_csv("plays.csv", index=False)
    rng, items = np.random.default_rng(0), data.items.ids()
    table = pd.DataFrame(
        {"item_id": items, "brand": rng.choice(list("abcdefgh"), len(items)), "stock": rng.integers(0, 3, len(items))}
    )
    table.to_csv("items.csv", index=False)
    (mlflow_root / "job.toml").write_text(CONFIG)
    return mlflow_root, table.set_index("item_id")


def read(folder):
    return pd.concat([pd.read_parquet(file) for file in sorted(folder.glob("part-*.parquet"))], ignore_index=True)


def assert_kept(lists, table, most=2):
    assert len(lists)
    about = table.loc[lists["item_id"]]
    assert (about["stock"] > 0).all()
    assert lists.assign(brand=about["brand"].to_numpy()).groupby(["user_id", "brand"]).size().max() <= most


def test_a_night_writes_lists_by_its_rules_and_other_stock_writes_them_anew(shop, capsys):
    root, table = shop
    night = ["nightly", "job.toml", "--quiet", "-n", "6"]
    assert main(night) == 0
    output = root / "data" / "scored" / "shop"
    assert_kept(read(output), table)
    assert json.loads((output / "_manifest.json").read_text())["rules"]["at_most"] == {"brand": 2}
    assert main(night) == 0
    assert "skipped: already complete" in capsys.readouterr().out
    turned = table.assign(stock=2 - table["stock"])
    turned.reset_index().to_csv("items.csv", index=False)
    assert main([*night, "--set", "rules.at_most.brand=1"]) == 0
    printed = capsys.readouterr().out
    assert "train    skipped: version 1 was trained on these data with this configuration" in printed
    assert_kept(read(output), turned, most=1)
    assert main([*night, "--set", "rules.allow=stok > 0"]) == 3
    assert "'stok', which the items do not have; did you mean 'stock'" in capsys.readouterr().err
    assert_kept(read(output), turned, most=1)


def test_commands_take_rules_and_lists_of_ids(shop, capsys):
    root, table = shop
    data = recsys.datasets.read("plays.csv")
    job = load_config("job.toml")
    config, split = job.as_dict(), job.split.split(job.load_data())
    trained = {"fingerprint": split.train.fingerprint()}
    EASE().fit(split.train, show_progress=False).save("model", about={"config": config, "trained_on": trained})
    assert main(["score", "model", "--output", "out", "--rules", "job.toml", "--quiet"]) == 0
    assert_kept(read(root / "out"), table)
    allowed = table.index[:20]
    (root / "allowed.txt").write_text("\n".join(map(str, allowed)))
    table.reset_index().to_parquet("other.parquet")
    (root / "caps.toml").write_text("at_most = {brand = 1}\n")
    command = ["score", "model", "--output", "out", "--rules", "caps.toml", "--allow", "allowed.txt", "--quiet"]
    assert main([*command, "--items", "other.parquet"]) == 0
    lists = read(root / "out")
    assert set(lists["item_id"]) <= set(allowed)
    assert (
        lists.assign(brand=table.loc[lists["item_id"], "brand"].to_numpy()).groupby(["user_id", "brand"]).size().max()
        == 1
    )
    assert main(["score", "model", "--output", "out", "--exclude", "allowed.txt", "--quiet"]) == 0
    assert not set(read(root / "out")["item_id"]) & set(allowed)
    capsys.readouterr()
    user = str(data.users.ids([0])[0])
    assert main(["recommend", "model", "--user", user, "--rules", "job.toml", "-n", "3", "--quiet"]) == 0
    histories, seen = job.data.histories()
    asked = [data.users.ids([0])[0]]
    wanted = recsys.recommend_frame(recsys.load("model"), histories, asked, 3, rules=job.rules, seen=seen)
    printed = capsys.readouterr().out
    assert all(f"{rank}.  {item}  (" in printed for rank, item in zip(wanted["rank"], wanted["item_id"], strict=True))
    assert (
        main(["evaluate", "model", "--rules", "job.toml", "--metric", "ndcg@10", "--report", "r.html", "--quiet"]) == 0
    )
    printed = capsys.readouterr().out
    assert [line.split()[1] for line in printed.splitlines() if line.startswith("+ ")] == ["allow", "at_most"]
    page = (root / "r.html").read_text()
    # The page has the figures that were printed, behind the sentence of what all rules change.
    [last] = [line.split() for line in printed.splitlines() if line.startswith("+ at_most")]
    assert f'<td class="n">{last[3]} {last[4]}</td>' in page
    assert f"With all rules, ndcg@10 is {last[3]} in place of " in page
    refused = {
        "says what to allow, and --allow does too": (2, ["--rules", "job.toml", "--allow", "allowed.txt"]),
        "--items is a table for rules, or for a model with features": (2, ["--items", "other.parquet"]),
        "the rules read 'brand' of the items, and there is no table": (2, ["--rules", "caps.toml"]),
        "there is no file of rules": (4, ["--rules", "absent.toml"]),
        "no rules hold there": (2, ["--exclude", "allowed.txt", "--recall", "0.9"]),
    }
    for said, (code, words) in refused.items():
        assert (main([*command[:4], *words]), words) == (code, words)
        assert said in capsys.readouterr().err


def test_a_served_model_takes_rules_of_a_request(shop, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    root, table = shop
    data = recsys.datasets.read("plays.csv")
    model = EASE().fit(data.binarized(), show_progress=False)
    with tracking.start_run(Workspace(root), "logged") as run:
        tracking.log_model(model, name="shop", examples=data.binarized())
    assert run
    monkeypatch.setenv("RECSYS_ITEMS", str(root / "items.csv"))
    served = mlflow.pyfunc.load_model("models:/shop/1")
    users = data.users.ids(np.arange(4))
    requests = pd.DataFrame(
        {
            "user_id": [str(user) for user in users],
            "items": [[str(item) for item in data.items.ids(data.matrix[[row]].indices)] for row in range(4)],
        }
    )
    pairs = [[int(user), int(item)] for user in users for item in table.index[:10]]
    rules = Rules(allow="stock > 0", at_most={"brand": 1}, exclude_pairs=pairs)
    answers = served.predict(requests, params={"rules": rules.as_json(), "n": 5})
    wanted = recsys.recommend_frame(model, data.binarized(), users, 5, rules=rules, items=table.reset_index())
    for user, row in zip(users, answers.itertuples(), strict=True):
        mine = wanted[wanted["user_id"] == user]
        assert row.items == [str(item) for item in mine["item_id"]]
        assert row.scores == pytest.approx(mine["score"].tolist())
    some = [str(item) for item in table.index[:20]]
    for row in served.predict(requests, params={"rules": '{"at_most": {"brand": 1}}', "items": some}).itertuples():
        assert set(row.items) <= set(some)
        assert table.loc[[int(item) for item in row.items], "brand"].is_unique
    for wrong, said in {
        '{"allow": {"file": "/etc/passwd"}}': "name no files",
        '{"items": "/etc/passwd", "allow": [1]}': "name no files",
        "nothing": "written as JSON",
        '{"alow": [1]}': "did you mean 'allow'",
        '{"allow": "colour = 3"}': "'colour', which the items do not have",
    }.items():
        with pytest.raises(Exception, match=said):
            served.predict(requests, params={"rules": wrong})
    monkeypatch.delenv("RECSYS_ITEMS")
    bare = mlflow.pyfunc.load_model("models:/shop/1")
    with pytest.raises(Exception, match="of which this server knows nothing; start it with RECSYS_ITEMS=FILE"):
        bare.predict(requests, params={"rules": rules.as_json()})

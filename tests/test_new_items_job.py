"""New items in the jobs: a table of arrivals for a registered or saved model, in lists on the screen and in files."""

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import cli
from recsys.errors import UnsupportedError

KINDS = ["shoes", "hats", "bags"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop")
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(90), 8)
    bought = rng.integers(0, 20, len(users)) * 3 + users % 3  # everyone buys of one kind
    events = pd.DataFrame({"user_id": users, "item_id": bought}).drop_duplicates()
    events.to_csv(folder / "events.csv", index=False)
    catalog = pd.DataFrame({"item_id": np.arange(60), "title": [f"Thing {n}" for n in range(60)]})
    catalog.assign(kind=[KINDS[n % 3] for n in range(60)]).to_csv(folder / "catalog.csv", index=False)
    new = pd.DataFrame({"item_id": [100, 101, 102], "title": ["New shoes", "New hat", "New bag"], "kind": KINDS})
    new.to_csv(folder / "arrivals.csv", index=False)
    (folder / "job.toml").write_text(f"""
[data]
file = "{folder / "events.csv"}"
items = "{folder / "catalog.csv"}"

[split]
kind = "hold_out_ratings"

[model]
name = "WithFeatures"
model = {{ name = "EASE", regularization = 1.0 }}
columns = {{ kind = "category" }}

[train]
refit = true

[track]
register = "shop"
""")
    assert cli.main(["train", str(folder / "job.toml"), "--root", str(folder), "--quiet", "--force"]) == 0
    return folder


def test_scores_hold_new_items_of_the_kind_that_users_buy(shop):
    command = ["score", "models:/shop/1", "--root", str(shop), "--quiet", "-n", "30"]
    assert cli.main([*command, "--output", str(shop / "plain")]) == 0
    assert cli.main([*command, "--output", str(shop / "new"), "--items", str(shop / "arrivals.csv")]) == 0
    plain, new = (pd.read_parquet(shop / name) for name in ("plain", "new"))
    assert not plain["item_id"].isin([100, 101, 102]).any()
    ranks = new[new["item_id"] >= 100].pivot(index="user_id", columns="item_id", values="rank").fillna(99)
    own = ranks.to_numpy()[np.arange(90), np.arange(90) % 3]
    assert (own <= ranks.min(axis=1)).mean() > 0.95
    assert new.groupby("user_id").size().eq(30).all()
    # Another table is another job: it is not taken for complete.
    pd.DataFrame({"item_id": [103], "kind": ["hats"]}).to_csv(shop / "other.csv", index=False)
    assert cli.main([*command, "--output", str(shop / "new"), "--items", str(shop / "other.csv")]) == 0
    assert set(pd.read_parquet(shop / "new")["item_id"]) & {100, 101, 102, 103} == {103}


def test_recommend_shows_the_titles_of_new_items(shop, capsys):
    command = ["recommend", "models:/shop/1", "--user", "1", "-n", "20", "--root", str(shop)]
    assert cli.main([*command, "--items", str(shop / "arrivals.csv")]) == 0
    assert "New hat" in capsys.readouterr().out


def test_rules_read_the_same_table(shop):
    (shop / "rules.toml").write_text("exclude = \"kind = 'hats'\"\n")
    table = pd.concat([pd.read_csv(shop / "catalog.csv"), pd.read_csv(shop / "arrivals.csv")])
    table.to_csv(shop / "all.csv", index=False)
    command = ["score", "models:/shop/1", "--root", str(shop), "--quiet", "--output", str(shop / "ruled")]
    options = ["--rules", str(shop / "rules.toml"), "--items", str(shop / "all.csv")]
    assert cli.main([*command, *options]) == 0
    found = set(pd.read_parquet(shop / "ruled")["item_id"])
    assert {100, 102} & found
    assert not any(item % 3 == 1 for item in found if item < 100)
    assert 101 not in found


def test_a_model_without_features_refuses_the_table(shop, tmp_path, capsys):
    data = recsys.datasets.read(shop / "events.csv")
    recsys.EASE(regularization=1.0).fit(data, show_progress=False).save(tmp_path / "m")
    command = ["score", str(tmp_path / "m"), "--data", str(shop / "events.csv"), "--output", str(tmp_path / "o")]
    assert cli.main([*command, "--items", str(shop / "arrivals.csv"), "--root", str(tmp_path)]) == 2
    assert "or for a model with features of items" in capsys.readouterr().err


def test_a_blend_takes_new_items_if_all_of_its_parts_do(shop):
    data = recsys.datasets.read(shop / "events.csv", items=shop / "catalog.csv")
    arrivals = pd.read_csv(shop / "arrivals.csv")
    able = [{"name": "WithFeatures", "model": "ItemKNN"}, {"name": "ContentKNN"}]
    model = recsys.Blend(parts=able).fit(data, show_progress=False).with_items(arrivals)
    assert model.items_.codes([100, 101, 102]).tolist() == [60, 61, 62]
    ids, _ = model.recommend(-1, data.histories(model.items_)[1], N=63)
    assert ids.tolist().index(61) < ids.tolist().index(60)
    mixed = recsys.Blend(parts=[*able, {"name": "EASE"}]).fit(data, show_progress=False)
    with pytest.raises(UnsupportedError, match="EASE of this blend read no features"):
        mixed.with_items(arrivals)

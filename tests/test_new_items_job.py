"""New items in the jobs: a table of arrivals for a registered or saved model, in lists on the screen and in files."""

import json

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys import cli
from recsys.config import load_config
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
warm_loss = 1.0

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


def told(capsys, *words):
    """The rows that a command prints as JSON."""
    capsys.readouterr()
    assert cli.main([*map(str, words), "--json"]) == 0
    return pd.DataFrame(json.loads(capsys.readouterr().out))


def test_every_verb_takes_new_items(shop, capsys):
    new = ["--items", shop / "arrivals.csv", "--root", shop]
    similar = told(capsys, "similar", "models:/shop/1", "101", "-n", 5, *new)
    assert (similar["similar_item_id"] % 3 == 1).all()  # known hats, by their kind
    assert set(similar["kind"]) == {"hats"}
    near = told(capsys, "similar", "models:/shop/1", "1", "-n", 25, *new)
    assert near.loc[near["similar_item_id"] == 101, ["title", "kind"]].to_numpy().tolist() == [["New hat", "hats"]]
    users = told(capsys, "users", "models:/shop/1", "101", "-n", 20, *new)
    assert (users["user_id"] % 3 == 1).all()  # who buys hats
    assert set(users["title"]) == {"New hat"}
    reasons = told(capsys, "explain", "models:/shop/1", "--user", "1", "--item", "101", "-n", 3, *new)
    assert (reasons["history_item_id"] % 3 == 1).all()
    assert (reasons["contribution"] > 0).all()
    # Without the table nobody has met them, and no --items is taken by a model that could not read it.
    assert cli.main(["similar", "models:/shop/1", "101", "--root", str(shop)]) == 4
    assert "unknown id '101'" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["similar", "1"], ["users", "1"], ["explain", "--user", "1", "--item", "1"]])
def test_verbs_of_a_model_without_features_refuse_the_table(shop, tmp_path, capsys, words):
    (tmp_path / "job.toml").write_text(f'[data]\nfile = "{shop / "events.csv"}"\n[split]\nkind = "hold_out_ratings"\n')
    config = load_config(tmp_path / "job.toml", ["model.name=EASE"])
    model = recsys.EASE().fit(config.load_data(), show_progress=False)
    model.about_ = {"config": config.as_dict()}
    model.save(tmp_path / "m")
    assert cli.main([words[0], str(tmp_path / "m"), *words[1:], "--items", str(shop / "arrivals.csv")]) == 2
    assert "this EASE reads none: leave it out, or train WithFeatures" in capsys.readouterr().err


def test_new_items_are_measured_in_the_lists(shop, capsys, tmp_path):
    words = ["evaluate", "models:/shop/1", "--root", shop, "--metric", "recall@5", "--metric", "coverage@5"]
    old, new = told(capsys, *words), told(capsys, *words, "--items", shop / "arrivals.csv")
    # Nobody has the new items, so that they only take places in lists.
    assert new["n"][0] == old["n"][0]
    assert 0 < new["value"][0] < old["value"][0]
    # A model without the last items of the catalog, and the table of these: they are found by their kind.
    events = pd.read_csv(shop / "events.csv")
    events[events["item_id"] < 45].to_csv(tmp_path / "before.csv", index=False)
    (tmp_path / "job.toml").write_text(
        (shop / "job.toml").read_text().replace(str(shop / "events.csv"), str(tmp_path / "before.csv"))
    )
    assert cli.main(["train", str(tmp_path / "job.toml"), "--root", str(tmp_path), "--quiet", "--force"]) == 0
    later = ["evaluate", "models:/shop/1", "--root", tmp_path, "--config", shop / "job.toml", "--allow-other-split"]
    assert cli.main([*map(str, later)]) == 3
    assert "the model knows 45 items and this split has 60" in capsys.readouterr().err
    found = told(capsys, *later, "--items", shop / "catalog.csv", "--metric", "recall@5")
    assert found["value"][0] > 0.5 * old["value"][0]


def test_a_night_scores_with_new_items(shop, tmp_path, capsys):
    job = ["nightly", str(shop / "job.toml"), "--root", str(tmp_path), "--quiet", "-n", "20"]
    job += ["--set", "split.kind=hold_out_users", "--set", "split.stable=true", "--set", "train.refit=false"]
    new = ["--set", f"nightly.items={shop / 'arrivals.csv'}"]
    assert cli.main(job) == 6  # its users are too few to earn anything
    assert cli.main(["promote", "shop", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main([*job, *new]) == 0
    assert "done: 90 users, with 3 new items" in capsys.readouterr().out
    lists = pd.read_parquet(tmp_path / "data" / "scored" / "shop")
    assert set(lists["item_id"]) >= {100, 101, 102}
    # The table is none of what training depends on; without it, lists are written anew.
    assert cli.main(job) == 0
    assert "train    skipped" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "data" / "scored" / "shop")["item_id"].max() < 60
    assert cli.main([*job, *new, "--set", "model.model.regularization=2.0"]) == 0
    assert "with 3 new items" in capsys.readouterr().out
    # What cannot work is said before anything is trained.
    for wrong, message, code in (
        (["--set", "model={name='EASE'}"], "nightly.items names new items, and EASE reads no features of items", 2),
        (["--set", f"nightly.items={shop / 'events.csv'}"], "has no column 'kind', which the model reads of items", 3),
        (["--set", "nightly.items=gone.csv"], "expected a table of items at gone.csv, found nothing", 4),
    ):
        assert cli.main([*job, *new, *wrong]) == code
        said = capsys.readouterr()
        assert message in said.err
        assert "train " not in said.out


def test_a_champion_that_reads_no_features_scores_without_new_items(shop, tmp_path, capsys):
    job = ["nightly", str(shop / "job.toml"), "--root", str(tmp_path), "--quiet", "-n", "20"]
    job += ["--set", "split.kind=hold_out_users", "--set", "split.stable=true", "--set", "train.refit=false"]
    assert cli.main([*job, "--set", "model={name='EASE', regularization=1.0}"]) == 6
    assert cli.main(["promote", "shop", "--root", str(tmp_path)]) == 0
    capsys.readouterr()
    assert cli.main([*job, "--set", f"nightly.items={shop / 'arrivals.csv'}"]) == 0
    assert "models:/shop/1 reads no features of items, so that the new items" in capsys.readouterr().out
    assert pd.read_parquet(tmp_path / "data" / "scored" / "shop")["item_id"].max() < 60


def test_the_column_of_items_may_have_another_name(shop, tmp_path, capsys):
    for name in ("events", "catalog", "arrivals"):
        table = pd.read_csv(shop / f"{name}.csv").rename(columns={"item_id": "sku"})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    text = (shop / "job.toml").read_text().replace(str(shop), str(tmp_path)).replace("[data]", '[data]\nitem = "sku"')
    (tmp_path / "job.toml").write_text(text)
    assert cli.main(["train", str(tmp_path / "job.toml"), "--root", str(tmp_path), "--quiet", "--force"]) == 0
    new = ["--items", tmp_path / "arrivals.csv", "--root", tmp_path]
    assert (told(capsys, "similar", "models:/shop/1", "101", "-n", 5, *new)["similar_item_id"] % 3 == 1).all()
    assert 101 in set(told(capsys, "recommend", "models:/shop/1", "--user", "1", "-n", 20, *new)["item_id"])


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

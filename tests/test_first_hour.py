"""From a table to lists by `recsys init`, `train` and `run`: what is written, said, resumed and refused."""

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys import tracking
from recsys.cli import main
from recsys.config import load_config
from recsys.jobs import run as job
from recsys.jobs import serve
from recsys.jobs.first_models import suited_models, suited_split
from recsys.jobs.first_plan import plan_for, setting
from recsys.jobs.init import _text
from recsys.workspace import Workspace
from tests.shop import write_shop


def test_a_configuration_that_train_takes_as_it_is(mlflow_root, capsys):
    write_shop(mlflow_root)
    assert main(["init", "events.csv", "--items", "items.csv"]) == 0
    said = capsys.readouterr().out
    assert "Client No.: 300 different, text such as" in said
    assert "50 rows repeat a user and item" in said
    assert "'return'" in said
    assert "titles     Bezeichnung" in said
    values = tomllib.loads(Path("events.toml").read_text())
    assert values["data"]["item_title"] == "Bezeichnung"
    assert values["model"]["columns"] == {"category": "category", "price": "number"}
    config = load_config("events.toml")
    data = config.load_data()
    assert data.shape == (300, 120)
    assert data.users.kind == "str"
    assert set(data.matrix.data) == {1.0}
    assert main(["train", "events.toml", "--quiet"]) == 0
    assert "models:/events/1" in capsys.readouterr().out


def test_nothing_is_overwritten(mlflow_root, capsys):
    write_shop(mlflow_root)
    Path("events.toml").write_text("mine")
    assert main(["init", "events.csv"]) == 2
    assert "not overwritten" in capsys.readouterr().err
    assert Path("events.toml").read_text() == "mine"
    assert main(["init", "events.csv", "--output", "other.toml"]) == 0
    assert main(["templates", "nightly", "--output", "other.toml"]) == 2


def test_settings_go_first_and_mistakes_are_named(mlflow_root, capsys):
    write_shop(mlflow_root)
    given = ["--set", "model.name=ALS", "--set", "model.factors=7", "--set", "split.kind=hold_out_users"]
    assert main(["init", "events.csv", "--set", "track.register=shop", "--set", "data.weights.view=0", *given]) == 0
    config = load_config("shop.toml")
    assert config.model["name"] == "ALS"
    assert config.model["factors"] == 7
    assert config.split.kind == "hold_out_users"
    assert not config.train.refit
    assert config.track.register_as == "shop"
    assert config.data.given["weights"]["view"] == 0
    for wrong, code in (("data.user=nobody", 3), ("dat.user=x", 2), ("user=x", 2), ("split.kind=by_tim", 2)):
        assert main(["init", "events.csv", "--output", "x.toml", "--set", wrong]) == code
        assert capsys.readouterr().err.startswith("recsys init: ")
    assert not Path("x.toml").exists()


def test_what_must_be_said_is_asked_in_the_command_s_words(mlflow_root, capsys):
    events, items = write_shop(mlflow_root)
    frame = pd.read_csv(events, sep=";")
    frame.rename(columns={"Client No.": "x"}).to_csv("odd.csv", index=False)
    assert main(["run", "odd.csv", "--output", "tonight"]) == 3
    assert "--set data.user=COLUMN" in capsys.readouterr().err
    assert not Path("tonight").exists()
    frame.assign(what=frame.what.replace("view", "frobnicate")).to_csv("odd.csv", index=False)
    assert main(["init", "odd.csv"]) == 0  # the column's name says nothing, and not all that it holds is known
    assert "--set data.rating=what reads it" in capsys.readouterr().out
    assert main(["init", "odd.csv", "--output", "x.toml", "--set", "data.rating=what"]) == 3
    assert "--set data.weights.frobnicate=1" in capsys.readouterr().err
    pd.read_csv(items).assign(artikelnummer=range(120)).to_csv("odd.csv", index=False)
    assert main(["init", "events.csv", "--items", "odd.csv"]) == 3
    assert "--set data.item_key=COLUMN" in capsys.readouterr().err


def test_lists_for_everyone_by_one_command_that_goes_on(mlflow_root, capsys, monkeypatch):
    write_shop(mlflow_root)
    command = ["run", "events.csv", "--items", "items.csv", "--output", "tonight", "--quiet"]
    train_one = job.train_one

    def killed_at_the_third(workspace, config, *parts, **options):
        if config.model["name"] == "MultVAE":
            raise KeyboardInterrupt
        return train_one(workspace, config, *parts, **options)

    monkeypatch.setattr(job, "train_one", killed_at_the_third)
    assert main(command) == 130
    assert "the same command goes on" in capsys.readouterr().err
    monkeypatch.setattr(job, "train_one", train_one)
    few = ["--set", "model.name=ALS"]  # a plan of one model, beside Popularity
    assert main([*command, *few]) == 0
    said = capsys.readouterr().out
    assert "on the test part, which chose nothing" in said
    versions = [version.version for version in tracking.versions_if_any("events")]
    lists = pd.read_parquet("tonight")
    assert list(lists) == ["user_id", "item_id", "score", "rank", "title"]
    assert lists.user_id.nunique() == 300
    titles = pd.read_csv("items.csv").set_index("artikelnummer")["Bezeichnung"]
    assert (lists.title == lists.item_id.map(titles)).all()
    seen = pd.read_csv("events.csv", sep=";", dtype={"Client No.": str}).query("what != 'return'")
    pairs = set(zip(seen["Client No."], seen.produkt_id, strict=True))
    assert not pairs & set(zip(lists.user_id, lists.item_id, strict=True))
    assert main([*command, *few]) == 0
    assert "already complete" in capsys.readouterr().out
    assert [version.version for version in tracking.versions_if_any("events")] == versions, "trained again"
    by_title = serve.recommend(Workspace(progress=False), "models:/events@champion", ["000001"])
    assert by_title.title.tolist() == lists[lists.user_id == "000001"].title.tolist()


def test_a_champion_of_another_command_keeps_its_alias(mlflow_root, capsys):
    write_shop(mlflow_root)
    command = ["run", "events.csv", "--output", "tonight", "--quiet", "--set", "model.name=EASE"]

    def holder():
        return next(one.version for one in tracking.model_versions("events") if one.aliases)

    assert main(command) == 0
    assert holder() == 2
    tracking.promote("events", 1, reason="by hand")
    capsys.readouterr()
    assert main([*command[:3], "other", *command[4:]]) == 0
    said = capsys.readouterr().out
    assert holder() == 1
    assert "recsys promote events --challenger 2 compares the two" in said
    assert "recsys recommend models:/events/2 " in said
    tracking.promote("events", 1, reason="by hand")
    assert main(["rollback", "events"]) == 0
    assert holder() == 2
    assert job._give_alias("events", 1, "best of some"), "its own champion gives way to tonight's"
    assert holder() == 1


def test_a_tiny_table_has_lists_too(mlflow_root, capsys):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"member": rng.integers(0, 5, 60), "book": rng.integers(0, 20, 60)})
    frame.to_csv("tiny.csv", index=False)
    result = job.run(Workspace(progress=False), "tiny.csv", "lists")
    assert "drawn at random" in capsys.readouterr().out
    assert result.lists.users == 5
    assert set(result.validation) == {"Popularity", "EASE", "ItemKNN"}
    assert result.table.index[0] in result.validation


def test_split_and_models_follow_from_the_size(mlflow_root):
    events, items = write_shop(mlflow_root)
    plan = plan_for(events, items, [])
    assert plan.sections["split"] == {"kind": "by_time"}
    assert plan.sections["train"]["refit"]
    data = plan.sources.data
    from dataclasses import replace

    without = replace(data, timestamps=None)
    assert suited_split(without).section["kind"] == "hold_out_ratings"  # 300 users are too few to hold any out
    assert [m.section["name"] for m in suited_models(data, {})] == ["EASE", "MultVAE", "ALS"]
    for suited in plan.models:
        plan.job(suited.section)


def test_settings_are_written_as_a_shell_takes_them():
    assert setting("user", "customer") == "--set data.user=customer"
    assert setting("user", "Client No.") == "--set 'data.user=Client No.'"
    assert setting("names", ["a", "b"]) == """--set 'data.names=["a", "b"]'"""


@pytest.mark.parametrize("text", ["plain", 'quo"te', "back\\slash", "Umläut", "tab\t", "\x7f", "new\nline"])
def test_text_survives_toml(text):
    assert tomllib.loads(f"a = {_text(text)}")["a"] == text

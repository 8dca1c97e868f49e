"""Commands that print tables: the lists of the frames, in words, as JSON and as CSV, and nothing else beside them."""

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import recsys
from recsys.cli import main
from recsys.commands import COMMANDS
from recsys.config import check_config
from recsys.jobs.registry import facts_table
from recsys.jobs.render import rendered
from tests.verbs import DATA, N_ITEMS, model

TITLES = {10 * place: f'Tïtle, "{place}"' for place in range(N_ITEMS)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Saved models of `tests.verbs`, with the data that they were trained on and a table of items."""
    folder = tmp_path_factory.mktemp("saved")
    DATA.to_frame().to_csv(folder / "ratings.csv", index=False)
    items = pd.DataFrame({"item_id": list(TITLES), "title": list(TITLES.values()), "price": np.arange(N_ITEMS) / 2})
    items.to_csv(folder / "items.csv", index=False)
    section = {"file": str(folder / "ratings.csv"), "items": str(folder / "items.csv")}
    for name in NAMES:
        config = check_config({"data": section, "model": {"name": name}, "split": {"kind": "hold_out_ratings"}})
        fitted = model(name)
        fitted.about_ = {"config": config.as_dict()}
        fitted.save(folder / name)
    return folder


NAMES = ["EASE", "ItemKNN", "ALS", "MultVAE", "CDAE", "UAutoRec", "Popularity"]


def printed(capsys, *words):
    """What a command prints: the table in both forms, which must be the same, after what it says in words."""
    words = list(map(str, words))
    capsys.readouterr()
    assert main([*words, "--quiet"]) == 0
    in_words = capsys.readouterr().out
    assert main([*words, "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert main([*words, "--csv", "--quiet"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), dtype=str, keep_default_na=False)
    assert table.columns.tolist() == list(found[0])
    assert table.to_dict("records") == [{name: cell(value) for name, value in row.items()} for row in found]
    return pd.DataFrame(found), in_words


def cell(value):
    """A value of JSON as a cell of CSV."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def same(found, frame, *, titles, of="item_id"):
    """Compare what a command says with a frame of the library: to the last bit of each score."""
    assert found.columns.tolist()[: frame.shape[1]] == frame.columns.tolist()
    for column in frame:
        kind = frame[column].dtype
        assert found[column].astype(kind).tolist() == frame[column].tolist(), column
    assert found["title"].tolist() == [TITLES[item] for item in found[of]] if titles else "title" not in found


@pytest.mark.parametrize("name", NAMES)
def test_commands_give_the_lists_of_the_frames(saved, capsys, name):
    fitted, can = recsys.load(saved / name), model(name).capabilities
    found, said = printed(capsys, "recommend", saved / name, "--user", 103, "--user", "101", "-n", 3)
    same(found, recsys.recommend_frame(fitted, DATA, [103, 101], n=3), titles=True)
    assert found["price"].tolist() == (found["item_id"] / 20).tolist()
    found, said = printed(capsys, "users", saved / name, 30, 10, "-n", 4)
    same(found, recsys.recommend_users_frame(fitted, [30, 10], DATA, n=4), titles=True)
    assert said.index(f"item 30: {TITLES[30]}") < said.index(f"item 10: {TITLES[10]}")
    for user, score in zip(found["user_id"], found["score"], strict=True):
        assert f".  {user}  ({score:.3f})" in said
    assert ("nothing is known of this user" in said) == (name == "Popularity")
    if can.compares_items:
        found, said = printed(capsys, "similar", saved / name, 30, 10, "-n", 4)
        same(found, recsys.similar_items_frame(fitted, [30, 10], n=4), titles=True, of="similar_item_id")
        assert said.index(f"item 30: {TITLES[30]}") < said.index(f"item 10: {TITLES[10]}")
        for item, score in zip(found["similar_item_id"], found["score"], strict=True):
            assert f"{TITLES[item]}  ({score:.3f})" in said
    if can.explains:
        found, said = printed(capsys, "explain", saved / name, "--user", 103, "--item", 10, "-n", 2)
        same(found, recsys.explain_frame(fitted, DATA, [103], [10], n=2), titles=True, of="history_item_id")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["similar", "EASE", "30", "nothing", "x" * 99],
            4,
            r"2 of the 3 items are not known to the model, for instance",
        ),
        (["similar", "EASE", "nothing"], 4, "unknown id 'nothing'; known ids look like [0, 10, 20]"),
        (
            ["users", "EASE", "31", "10"],
            4,
            "1 of the 2 items are not known to the model, for instance ['31']; known ids",
        ),
        (["recommend", "EASE", "--user", "7", "--user", "103"], 4, "1 of the 2 users are not in the data"),
        (["similar", "Popularity", "30"], 2, "Popularity has no similarity of items; use EASE or ItemKNN"),
        (["similar", "EASE", "30", "30"], 3, "items must name each item once, got 1 repeats"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_cannot_be_answered_is_one_line_and_no_table(saved, monkeypatch, capsys, words, code, message, form):
    monkeypatch.chdir(saved)
    assert main([*words, *form]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.splitlines()) == 1
    assert "x" * 61 not in said.err


def test_items_are_named_by_their_ids_where_the_model_has_no_titles(tmp_path, capsys):
    model("EASE").save(tmp_path / "plain")  # without a configuration
    found, said = printed(capsys, "similar", tmp_path / "plain", 30, "-n", 2)
    assert found["title"].tolist() == found["similar_item_id"].astype(str).tolist()
    assert "\nitem 30\n" in said


def test_a_table_of_items_that_is_gone_is_a_warning(saved, tmp_path, capsys):
    fitted = recsys.load(saved / "EASE")
    fitted.about_["config"]["data"]["items"] = str(tmp_path / "gone.csv")
    fitted.save(tmp_path / "model")
    with pytest.warns(recsys.errors.DataWarning, match="shown without the table of items: .*gone.csv"):
        assert main(["similar", str(tmp_path / "model"), "30", "-n", "1"]) == 0
    assert "item 30\n" in capsys.readouterr().out


def test_progress_and_notices_stay_out_of_the_table(saved, capsys):
    words = ["evaluate", str(saved / "EASE"), "--allow-other-split", "--metric", "ndcg@5", "--metric", "recall@5"]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    (ndcg, recall) = json.loads(said.out)
    assert (ndcg["metric"], recall["metric"]) == ("ndcg@5", "recall@5")
    assert 0.0 < ndcg["value"] < 1.0
    assert "EASE on Part(" in said.err
    assert main([*words]) == 0
    assert f"{ndcg['value']:.4f}" in capsys.readouterr().out


def test_both_forms_at_once_are_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["similar", "m", "1", "--json", "--csv"])
    assert "--csv: not allowed with argument --json" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["score", "m", "--output", "out", "--json"])  # which prints no table


def test_a_table_is_utf8_whatever_the_terminal_shows(saved):
    command = [sys.executable, "-m", "recsys", "similar", str(saved / "EASE"), "30", "-n", "2", "--json"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    shown = subprocess.run(command, capture_output=True, env=environment, check=True)
    assert "Tïtle" in json.loads(shown.stdout.decode())[0]["title"]


@pytest.mark.parametrize("words", ["similar EASE 30", "users EASE 30", "recommend EASE --user 103"])
def test_a_model_in_a_folder_needs_no_mlflow(saved, words):
    code = f"import sys; from recsys.cli import main; main({words.split()!r}); print('mlflow' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=saved)
    assert shown.stderr == ""
    assert shown.stdout.splitlines()[-1] == "False"


def test_every_kind_of_value_is_written_so_that_it_can_be_read_again():
    frame = pd.DataFrame(
        {
            "id": ["a,b", 'say "x"\nand y', None],
            "single": np.array([0.1, np.nan, np.inf], dtype=np.float32),
            "double": [0.1, 1 / 3, -1e300],
            "count": np.array([1, 2, 3], dtype=np.int8),
            "yes": [True, False, True],
            "list": [[1, 2], [], ["x", np.float32(0.3)]],
            "pair": pd.Series([(1, 2), (3, 4), (5, 6)]),
            "day": pd.to_datetime(["2026-01-02", None, "2026-01-03"]),
        }
    )
    rows = json.loads(rendered(frame, "json"))
    assert [row["id"] for row in rows] == ["a,b", 'say "x"\nand y', None]
    assert [row["single"] for row in rows] == [0.1, None, None]
    assert [row["double"] for row in rows] == [0.1, 1 / 3, -1e300]
    assert [(row["count"], row["yes"]) for row in rows] == [(1, True), (2, False), (3, True)]
    assert [row["list"] for row in rows] == [[1, 2], [], ["x", 0.3]]
    assert [row["pair"] for row in rows] == ["(1, 2)", "(3, 4)", "(5, 6)"]
    assert [row["day"] for row in rows] == ["2026-01-02 00:00:00", None, "2026-01-03 00:00:00"]
    table = pd.read_csv(io.StringIO(rendered(frame, "csv")), dtype=str, keep_default_na=False)
    for name in frame:
        cells = [
            cell if cell is None or isinstance(cell, str) else json.dumps(cell) for cell in (row[name] for row in rows)
        ]
        assert table[name].tolist() == ["" if cell is None else cell for cell in cells]
    assert rendered(frame.iloc[:0], "json") == "[]\n"
    assert rendered(frame.iloc[:0], "csv") == "id,single,double,count,yes,list,pair,day\n"


@pytest.mark.parametrize(
    "values", [np.random.default_rng(0).normal(size=200), np.random.default_rng(1).random(200) * 1e-30]
)
def test_scores_of_32_bits_come_back_to_the_last_bit(values):
    frame = pd.DataFrame({"score": values.astype(np.float32)})
    for found in (
        [row["score"] for row in json.loads(rendered(frame, "json"))],
        pd.read_csv(io.StringIO(rendered(frame, "csv")), dtype=str)["score"].map(float),
    ):
        np.testing.assert_array_equal(np.array(found, dtype=np.float32), frame["score"])


def test_tables_of_results_of_other_kinds():
    tables = {command.name: command.table for command in COMMANDS if command.table}
    assert set(tables) == {
        *("recommend", "similar", "users", "explain", "evaluate", "compare"),
        *("registry list", "registry show", "registry diff", "train", "tune", "data", "templates"),
    }
    columns = pd.MultiIndex.from_product([["ndcg@10"], ["value", "standard_error"]])
    table = pd.DataFrame([[0.5, 0.01], [0.25, np.nan]], index=pd.Index(["a", "b"], name="model"), columns=columns)
    assert json.loads(rendered(tables["compare"](SimpleNamespace(table=table)), "json")) == [
        {"model": "a", "ndcg@10 value": 0.5, "ndcg@10 standard_error": 0.01},
        {"model": "b", "ndcg@10 value": 0.25, "ndcg@10 standard_error": None},
    ]
    facts = {"created": "today", "aliases": ["champion"], "tags": {"b": "1"}, "params": {}, "metrics": {"ndcg": 0.5}}
    assert tables["registry show"](facts) == facts_table(facts)
    assert json.loads(rendered(facts_table(facts), "json")) == [
        {"what": "version", "name": "created", "value": "today"},
        {"what": "version", "name": "aliases", "value": ["champion"]},
        {"what": "tags", "name": "b", "value": "1"},
        {"what": "metrics", "name": "ndcg", "value": 0.5},
    ]

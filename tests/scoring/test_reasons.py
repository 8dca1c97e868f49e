"""The items of a history that stand beside a recommendation as its reasons, in frames, in Parquet and on the screen."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

import recsys
from recsys.cli import main
from recsys.config import check_config
from recsys.errors import ConfigError, UnsupportedError
from tests.contract import ratings

N_ITEMS = 15
TABLE = ratings(24, N_ITEMS, density=0.3)


def data_of(kind, table=TABLE):
    """The table with ids of text or of numbers."""
    cells = table.tocoo()
    items = np.array([f"item {i:02d}" if kind == "text" else 10 * i for i in range(table.shape[1])])
    users = np.array([f"u{i:02d}" if kind == "text" else 100 + i for i in range(table.shape[0])])
    frame = pd.DataFrame({"user_id": users[cells.row], "item_id": items[cells.col], "rating": cells.data})
    return recsys.Interactions.from_frame(frame)


MODELS = {
    "EASE": recsys.EASE(regularization=1.0),
    "ALS": recsys.ALS(factors=3, iterations=3),
    "MultVAE": recsys.MultVAE(hidden=8, latent=4, epochs=3, batch_size=5),
}


def expected(model, data, frame, n):
    """The reasons of each row, one call of `explain` at a time."""
    found = []
    for user, item in zip(frame["user_id"], frame["item_id"], strict=True):
        row = int(data.users.codes([user])[0])
        one = model.explain(row, data.matrix[row], int(model.items_.codes([item])[0]))
        best = one.contributions[one.contributions["contribution"] > 0].head(n)
        found.append(best["item_id"].tolist())
    return found


@pytest.mark.parametrize("kind", ["text", "numbers"])
@pytest.mark.parametrize("name", MODELS)
def test_reasons_are_the_items_that_contribute_most(name, kind, tmp_path):
    data = data_of(kind)
    model = MODELS[name].fit(data, show_progress=False)
    plain = recsys.recommend_frame(model, data, n=4)
    frame = recsys.recommend_frame(model, data, n=4, reasons=3)
    pd.testing.assert_frame_equal(frame.drop(columns="reasons"), plain)
    assert frame["reasons"].tolist() == expected(model, data, frame, 3)
    assert frame["reasons"].map(len).max() == 3
    recsys.score(model, data, tmp_path / "lists", n=4, reasons=3, batch_size=7)
    written = pq.read_table(tmp_path / "lists")
    assert written.column_names == ["user_id", "item_id", "score", "rank", "reasons"]
    assert written["reasons"].to_pylist() == frame["reasons"].tolist()
    assert written["item_id"].to_pylist() == frame["item_id"].tolist()


def test_who_has_no_usable_history_gets_no_reasons():
    data = data_of("numbers")
    model = MODELS["EASE"].fit(data, show_progress=False)
    stranger = pd.DataFrame({"user_id": [1, 1, 2], "item_id": [0, 20, 999], "rating": [4.0, 5.0, 5.0]})
    frame = recsys.recommend_frame(model, recsys.Interactions.from_frame(stranger), n=3, reasons=2)
    assert frame.loc[frame["user_id"] == 2, "reasons"].tolist() == [[], [], []]
    known = frame.loc[frame["user_id"] == 1, "reasons"]
    assert {item for items in known for item in items} <= {0, 20}
    assert known.map(len).any()


def test_reasons_belong_to_the_job(tmp_path):
    data = data_of("numbers")
    model = MODELS["EASE"].fit(data, show_progress=False)
    recsys.score(model, data, tmp_path / "lists", reasons=2)
    assert recsys.score(model, data, tmp_path / "lists", reasons=2).already_complete
    assert not recsys.score(model, data, tmp_path / "lists", reasons=3).already_complete
    assert not recsys.score(model, data, tmp_path / "lists").already_complete
    assert pq.read_table(tmp_path / "lists").column_names == ["user_id", "item_id", "score", "rank"]


def test_what_gives_no_reasons_is_refused_before_the_work(tmp_path):
    data = data_of("numbers")
    popularity, ease = recsys.Popularity().fit(data), MODELS["EASE"].fit(data, show_progress=False)
    for call in (
        lambda model, n: recsys.recommend_frame(model, data, reasons=n),
        lambda model, n: recsys.score(model, data, tmp_path / "lists", reasons=n),
    ):
        with pytest.raises(UnsupportedError, match="Popularity gives no reasons"):
            call(popularity, 2)
        with pytest.raises(ConfigError, match="reasons must be"):
            call(ease, 0)
    assert not (tmp_path / "lists").exists()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with data of items with titles, and two models of it."""
    folder = tmp_path_factory.mktemp("saved")
    data_of("text").to_frame().to_csv(folder / "ratings.csv", index=False)
    items = pd.DataFrame({"item_id": [f"item {i:02d}" for i in range(N_ITEMS)], "title": [f"T{i}" for i in range(15)]})
    items.to_csv(folder / "items.csv", index=False)
    for name in ("EASE", "Popularity", "MultVAE"):
        section = {"file": str(folder / "ratings.csv"), "items": str(folder / "items.csv")}
        config = check_config({"data": section, "model": {"name": name}})
        model = MODELS.get(name, recsys.Popularity()).fit(config.load_data(), show_progress=False)
        model.about_ = {"config": config.as_dict()}
        model.save(folder / name)
    return folder


def test_the_command_prints_what_speaks_for_an_item(saved, capsys):
    model = recsys.load(saved / "EASE")
    data = data_of("text")
    one = model.explain(3, data.matrix[3], 4)
    command = ["explain", str(saved / "EASE"), "--user", "u03", "--item", "item 04"]
    assert main([*command, "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"user u03, T4: score {one.score:.4f} (exact)"
    assert lines[2].split() == ["+0.0000", "without", "a", "history"]
    table = one.contributions
    shown = table.loc[table["contribution"].abs().nlargest(2).sort_index().index]
    for line, (item, value) in zip(lines[3:5], shown.values.tolist(), strict=True):
        assert line.split() == [f"{value:+.4f}", f"T{int(item[5:])}"]
    rest = table["contribution"].sum() - shown["contribution"].sum()
    assert lines[5].split()[0] == f"{rest:+.4f}"
    assert lines[5].endswith(f"  {len(table) - 2} more items of the history")
    assert len(lines) == 6
    assert main([*command, "--data", str(saved / "ratings.csv")]) == 0


def test_the_command_with_a_network(saved, capsys):
    for method in ("leave-one-out", "gradients"):
        command = ["explain", str(saved / "MultVAE"), "--user", "u03", "--item", "item 04", "--method", method]
        assert main(command) == 0
        out = capsys.readouterr().out
        assert f"({method})" in out
        assert out.splitlines()[-1].endswith("  what the items say only together")


@pytest.mark.parametrize(
    ("model", "words", "code", "message"),
    [
        ("EASE", ["--user", "nobody", "--item", "item 04"], 4, "unknown id 'nobody'"),
        ("EASE", ["--user", "u03", "--item", "nothing"], 4, "unknown id 'nothing'; known ids look like ['item 00'"),
        ("EASE", ["--user", "u03", "--item", "item 04", "--method", "gradients"], 2, "use --method exact"),
        ("MultVAE", ["--user", "u03", "--item", "item 04", "--method", "exact"], 2, "use --method leave-one-out"),
        ("Popularity", ["--user", "u03", "--item", "item 04"], 2, "Popularity gives no reasons"),
    ],
)
def test_what_the_command_refuses_is_one_line(saved, capsys, model, words, code, message):
    assert main(["explain", str(saved / model), *words]) == code
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_score_writes_reasons_too(saved, tmp_path, capsys):
    command = ["score", str(saved / "EASE"), "--output", str(tmp_path / "lists"), "--quiet"]
    assert main([*command, "--reasons", "2"]) == 0
    found = pd.read_parquet(tmp_path / "lists")
    assert found["reasons"].map(len).max() == 2
    capsys.readouterr()
    assert main([*command, "--reasons", "2", "--engine", "spark"]) == 2
    assert "--reasons is not for --engine spark" in capsys.readouterr().err

"""The report of a table, what the parts of a split share, and the command that prints both."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import cli, datasets, describe, leaks, splits
from recsys.interactions import Interactions
from recsys.splits import Split


def interactions(rows, **options):
    return Interactions.from_frame(pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"]), **options)


ROWS = [
    ("a", 1, 5.0, 0),
    ("a", 2, 3.0, 86_400),
    ("a", 3, 5.0, 60),
    ("b", 1, 0.0, 70),
    ("c", 1, 5.0, 80),
    ("c", 4, 3.0, 90),
]


def test_a_small_table_by_hand():
    report = describe(interactions(ROWS), repeated=2)
    assert (report.users, report.items, report.entries, report.repeated) == (3, 4, 6, 2)
    assert report.density == 0.5
    assert report.history == {"mean": 2, "min": 1, "25 %": 1, "median": 2, "75 %": 3, "max": 3}
    assert report.audience["max"] == 3
    assert report.head == {1: 0.5, 10: 0.5, 20: 0.5}  # one item of four
    assert report.gini == pytest.approx((-3 * 1 - 1 * 1 + 1 * 1 + 3 * 3) / (4 * 6))
    assert report.values == {"0": 1, "3": 2, "5": 3}
    assert report.time == ("1970-01-01 00:00:00", "1970-01-02 00:00:00")
    text = repr(report)
    for part in ("6 (50.000% of all pairs)", "repeated rows   2", "50.0% on the top 1 %", "1970-01-01 00:00:00 to"):
        assert part in text
    plain = Interactions.from_frame(pd.DataFrame({"user_id": [1], "item_id": [1]}))
    assert describe(plain).time is None
    assert "repeated rows   not counted" in repr(describe(plain))


@given(st.integers(1, 300), st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_the_head_is_the_share_of_the_most_popular_items(n_items, seed):
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, n_items, size=(400, 2))
    frame = pd.DataFrame({"user_id": draws[:, 0], "item_id": draws[:, 1] ** 2 // n_items}).drop_duplicates()
    report = describe(Interactions.from_frame(frame))
    counts = frame["item_id"].value_counts()
    for top, share in report.head.items():
        kept = int(np.ceil(len(counts) * top / 100))
        assert share == pytest.approx(counts.iloc[:kept].sum() / len(frame))
    assert sum(report.values.values()) == len(frame)


def test_many_values_are_counted_in_ranges():
    frame = pd.DataFrame({"user_id": range(50), "item_id": range(50), "rating": np.arange(50) / 7})
    report = describe(Interactions.from_frame(frame))
    assert len(report.values) == 10
    assert sum(report.values.values()) == 50
    assert next(iter(report.values)) == "0 to 0.7"


def planted():
    """A column that puts one entry of the test user's future into training."""
    rows = [(1, 1, 1.0, 10), (1, 2, 1.0, 99), (2, 1, 1.0, 20), (2, 3, 1.0, 50), (3, 2, 1.0, 60), (3, 3, 1.0, 30)]
    data = interactions(rows)
    return data, np.array([False, False, False, True, True, False])


def test_leaks_count_entries_from_the_future():
    data, is_test = planted()
    marked = Interactions(
        data.matrix, data.users, data.items, data.timestamps, {"mark": np.where(is_test, "test", "x")}
    )
    found = leaks(marked, splits.given(marked, "mark"))
    assert found["part"].unique().tolist() == ["test"]
    late = found.set_index("what").loc["training entries later than the first of the part"]
    assert (late["count"], late["of"]) == (1, 4)  # of the times 10, 99, 20, 30, one is later than 50
    for split in (splits.by_time(data, test=0.3, validation=0.2), splits.by_time(data, test=0.3, validation=0)):
        assert set(leaks(data, split)["count"]) == {0}


def test_leaks_count_what_parts_share():
    data = datasets.synthetic(80, 30, 900, seed=1)
    split = splits.hold_out_users(data, n_users=15)
    found = leaks(data, split)
    shared = found[found["what"].str.startswith("target")]
    assert shared["count"].tolist() == [0] * 5
    assert shared["of"].tolist() == [split.validation.target.nnz] * 2 + [split.test.target.nnz] * 3
    late = found[~found["what"].str.startswith("target")]
    assert late["part"].tolist() == ["validation", "test"]
    assert (late["count"] > 0).all()  # users at random: the others train on later entries
    both = Split(split.train, split.test, split.test, allow_overlap=True)
    again = leaks(data, both)
    count = again[again["what"] == "target entries in validation"]["count"].iloc[0]
    assert count == split.test.target.nnz


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECSYS_DATA", raising=False)

    def command(*arguments):
        status = cli.main(["data", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def test_the_command_describes_a_file_and_counts_repeated_rows(run, tmp_path):
    frame = pd.DataFrame(ROWS, columns=["user_id", "item_id", "rating", "timestamp"])
    frame.to_csv(tmp_path / "plays.csv", index=False)
    status, out, err = run("plays.csv")
    assert (status, err) == (0, "")
    assert "entries         6" in out
    assert "repeated rows   0" in out
    pd.concat([frame, frame[:2], frame[:1]]).to_csv(tmp_path / "plays.csv", index=False)
    _, out, _ = run("plays.csv")
    assert "entries         6" in out
    assert "repeated rows   3" in out


def test_the_command_understands_a_table_whose_columns_have_other_names(run, tmp_path):
    rng = np.random.default_rng(0)
    events = pd.DataFrame({"customer": rng.integers(0, 30, 400), "sku": rng.integers(0, 20, 400)}).astype(str)
    events["customer"], events["sku"] = "C" + events["customer"].str.zfill(4), events["sku"].str.zfill(6)
    events["event"] = rng.choice(["view", "purchase", "refund"], 400)
    events.to_csv(tmp_path / "events.csv", index=False, sep=";")
    kept = events[events["event"] != "refund"]
    pairs = kept.drop_duplicates(["customer", "sku"])
    status, out, err = run("events.csv")
    assert (status, err) == (0, "")
    assert "users      customer: 30 different" in out
    assert "rows of 'refund' are left out" in out
    assert f"entries         {len(pairs)} (" in out
    assert f"repeated rows   {len(kept) - len(pairs)}" in out
    _, listed, _ = run("events.csv", "--csv")
    assert listed.startswith("what,name,value")
    status, _, err = run("events.csv", "--set", "data.user=client", "--set", "data.item=sku")
    assert status == 3
    assert "'client'" in err


def test_the_command_describes_the_split_of_a_configuration(run, tmp_path):
    (tmp_path / "job.toml").write_text(
        '[data]\nusers = 90\nitems = 40\ninteractions = 1200\n\n[split]\nkind = "by_time"\n\n[model]\nname = "EASE"\n'
    )
    status, out, err = run("job.toml")
    assert (status, err) == (0, "")
    assert "users           90" in out
    lines = [line.split() for line in out.splitlines() if "training entries later" in line]
    assert [line[-2] for line in lines] == ["0", "0"]


def test_the_command_names_what_it_cannot_find(run, tmp_path):
    status, out, err = run("ml1m")
    assert (status, out) == (4, "")
    assert "there is no file or folder ml1m, nor a data set of that name; did you mean 'ml-1m'?" in err
    (tmp_path / "bad.csv").write_text("user_id,item_id,rating\n1,2,\n1,2,3\n")
    status, _, err = run("bad.csv")
    assert status == 3
    assert "NaN" in err
    assert run("synthetic")[0] == 0

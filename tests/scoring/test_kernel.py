"""The kernel: long rows as Arrow batches give the lists of the local job, whatever stands beside a user."""

import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys.config.data import DataConfig
from recsys.errors import BundleError, DataError, DataWarning
from recsys.interactions import Interactions
from recsys.models import ALS, EASE, MODELS
from recsys.scoring import recommend_frame
from recsys.scoring.kernel import Counts, Kernel, Source
from recsys.scoring.rows import Reading, interactions_of, whole_users
from tests.contract import CASES, new_model, quick
from tests.scoring.worlds import as_text, assert_same_lists, fit, frame_of, long_rows, sorted_batches

SMALL = long_rows(users=40, items=25, rows=300)
FEW_OF_EACH = ("IAutoRec", "MultVAE", "EASE", "SANSA", "InfiniteAE", "ALS", "BPR")


def check_blocks(name):
    """300 users, 1,300 items: wide enough for every path of `nn.products.affine`."""
    data = Interactions.from_frame(long_rows())
    changes = {key: 100 for key in ("batch_size",) if key in CASES[name]}
    model = new_model(name, **{**quick(MODELS[name]), **changes}).fit(data, show_progress=False)
    kernel, source = Kernel(model, 20), Source(model, data, None)
    everyone = np.arange(300, dtype=np.int32)
    whole = kernel.lists(source, everyone)
    for size in (1, 7, 63, 64):
        asked = everyone[: 24 * size]  # single users by the dozen
        cut = [kernel.lists(source, asked[start : start + size]) for start in range(0, len(asked), size)]
        wanted = whole.rows < len(asked)
        for found, all_of_them in zip(zip(*cut, strict=True), whole, strict=True):
            np.testing.assert_array_equal(np.concatenate(found), all_of_them[wanted])


@pytest.mark.parametrize("name", FEW_OF_EACH)
def test_a_list_does_not_depend_on_who_shares_the_block(name):
    check_blocks(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if name not in FEW_OF_EACH])
def test_a_list_of_no_model_depends_on_who_shares_the_block(name):
    check_blocks(name)


@pytest.mark.parametrize("text", [False, True], ids=["integers", "text"])
@pytest.mark.parametrize("name", ["EASE", "ALS", "MultVAE"])
def test_rows_give_the_lists_of_the_local_job(name, text, monkeypatch):
    trained = as_text(SMALL) if text else SMALL
    model = fit(new_model(name, **quick(MODELS[name])), trained)
    grown = SMALL[SMALL["user_id"] < 20].drop(index=SMALL.index[:5])  # some of training, some with less than that
    strange = long_rows(users=60, items=40, rows=200, seed=1)[lambda rows: rows["user_id"] >= 20]  # and unknown items
    rows = pd.concat([grown, strange, pd.DataFrame({"user_id": [99], "item_id": [39], "rating": [1.0]})])
    rows = as_text(rows) if text else rows
    wanted = recommend_frame(model, Interactions.from_frame(rows), n=7)
    for size, users in ((1, 3), (13, 1), (10_000, 8192)):
        monkeypatch.setattr("recsys.scoring.kernel.whole_users", lambda given, users=users: whole_users(given, users))
        counts = Counts()
        found = frame_of(Kernel(model, 7).batches(sorted_batches(rows, size), counts=counts))
        assert_same_lists(found, wanted)
        assert found["user_id"].tolist() == sorted(found["user_id"])
        known = rows["item_id"].isin(trained["item_id"])
        figures = rows["user_id"].nunique(), len(wanted), len(rows), known.sum()
        assert (counts.users, counts.rows, counts.entries, counts.kept) == figures
        assert counts.with_entries - counts.having == rows["user_id"].nunique() - rows["user_id"][known].nunique() >= 1
        assert counts.trained == len(set(rows["user_id"]) & set(trained["user_id"]))


def test_ids_are_matched_by_what_they_mean():
    model = fit(EASE(), SMALL)
    wanted = recommend_frame(model, Interactions.from_frame(SMALL))
    found = frame_of(Kernel(model).batches(sorted_batches(SMALL.astype({"user_id": str, "item_id": str}), 50)))
    assert_same_lists(found.astype({"user_id": int}), wanted)


def test_a_saved_model_is_opened_from_its_folder(tmp_path):
    model = fit(ALS(factors=4, iterations=2), SMALL)
    model.save(tmp_path / "model")
    kernel = Kernel.open(tmp_path / "model", 5)
    assert_same_lists(
        frame_of(kernel.batches(sorted_batches(SMALL, 64))), recommend_frame(model, Interactions.from_frame(SMALL), n=5)
    )
    with pytest.raises(BundleError):
        Kernel.open(tmp_path)


READINGS = [
    {},
    {"min_rating": 3.0},
    {"min_rating": 3.0, "binary": True},
    {"binary": True},
    {"duplicates": "sum"},
    {"duplicates": "max", "min_rating": 4.0},
    {"duplicates": "last"},
    {"duplicates": "last", "time_unit": "ms", "min_rating": 2.5, "binary": True},
    {"duplicates": "sum", "weights": {"1": 0, "2": 1, "3": 0.3, "4": 2, "5": 5}},
    {"duplicates": "max", "weights": {"1": 0, "2": 0, "3": 0, "4": 0, "5": 5}, "min_rating": 1.0},
]


@pytest.mark.parametrize("options", READINGS, ids=str)
def test_rows_are_read_as_the_section_data_reads_a_file(tmp_path, options):
    rng = np.random.default_rng(5)
    rows = SMALL
    if options.get("duplicates"):
        again = SMALL.sample(150, random_state=1).assign(rating=lambda frame: rng.integers(1, 6, len(frame)))
        rows = pd.concat([SMALL, again], ignore_index=True)
    rows = rows.assign(timestamp=1_400_000_000_000 + 1000 * rng.integers(0, 3, len(rows)))
    if options.get("weights"):
        rows = rows.assign(rating=rows["rating"].astype(int))
    rows.to_parquet(tmp_path / "rows.parquet")
    section = DataConfig.model_validate({"file": str(tmp_path / "rows.parquet"), "time_unit": "ms", **options})
    histories, seen = section.histories()
    model = fit(EASE(), SMALL)
    wanted = recommend_frame(model, histories, n=30, seen=seen)
    kernel = Kernel(model, 30)
    assert_same_lists(frame_of(kernel.batches(sorted_batches(rows, 11), Reading(**options))), wanted)


def test_rows_marked_as_seen_are_filtered_and_not_read():
    model = fit(EASE(), SMALL)
    liked = SMALL[SMALL["rating"] >= 3]
    whole = SMALL[SMALL["user_id"].isin(liked["user_id"])]
    more = pd.concat([whole, pd.DataFrame({"user_id": [777], "item_id": [3], "rating": [1.0]})])
    wanted = recommend_frame(model, Interactions.from_frame(liked), n=25, seen=Interactions.from_frame(more))
    rows = pd.concat([liked.assign(seen=False), more.assign(seen=True)])
    assert_same_lists(frame_of(Kernel(model, 25).batches(sorted_batches(rows, 17))), wanted)
    lost = rows[~((rows["user_id"] == liked["user_id"].iloc[0]) & rows["seen"])]
    for missing in (lost, liked.assign(seen=False)):
        with pytest.raises(DataError, match="seen must hold every user of the histories"):
            list(Kernel(model).batches(sorted_batches(missing, 1000)))
    with pytest.raises(DataError, match="'seen' must hold true or false, got int64 with 0 nulls"):
        list(Kernel(model).batches(sorted_batches(liked.assign(seen=0), 1000)))


def test_rows_that_cannot_be_read_are_refused():
    kernel = Kernel(fit(EASE(), SMALL))
    refused = {
        "1 rows repeat a user and item": pd.concat([SMALL, SMALL.head(1)]),
        "of the .* ids in 'item_id' must not be missing": SMALL.astype({"item_id": "Int64"}).assign(
            item_id=lambda frame: frame["item_id"].where(frame["item_id"] != 3)
        ),
        "NaN or infinite": SMALL.assign(rating=np.nan),
        "column 'item_id' is not in the rows; they have user_id, rating": SMALL.drop(columns="item_id"),
    }
    for message, rows in refused.items():
        with pytest.raises(DataError, match=message):
            list(kernel.batches(sorted_batches(rows, 100)))
    missing = pa.record_batch({"user_id": pa.array([1, None], pa.int64()), "item_id": [1, 2]})
    with pytest.raises(DataError, match="1 ids in 'user_id' are missing"):
        list(kernel.batches([missing]))
    with pytest.raises(DataError, match="rows must be sorted by user, got 1 after 2"):
        list(kernel.batches([pa.record_batch({"user_id": [1, 2, 1], "item_id": [1, 2, 3]})]))
    one, two = (pa.record_batch({"user_id": [user], "item_id": [1]}) for user in (1, 2))
    with pytest.raises(DataError, match="rows must be sorted by user, got 1 after 2"):
        list(kernel.batches([two, one]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 5), st.integers(1, 9))
def test_tables_hold_whole_users_and_every_row_once(users, size, most_users, most_rows):
    users = sorted(users)
    rows = pa.table({"user_id": users, "row": range(len(users))})
    tables = list(whole_users(rows.to_batches(max_chunksize=size), most_users, most_rows))
    assert pa.concat_tables(tables).equals(rows)
    found = [set(table["user_id"].to_pylist()) for table in tables]
    assert sum(map(len, found)) == len(set(users))
    assert all(len(held) <= most_users + size for held in found)
    assert all(
        len(held) >= most_users or len(table) >= most_rows for table, held in zip(tables[:-1], found, strict=False)
    )


def test_a_user_of_many_batches_is_joined_once(monkeypatch):
    rows = pa.table({"user_id": np.repeat([1, 2, 3], [5, 100_000, 5]), "item_id": np.arange(100_010)})
    joined = []
    from_batches = pa.Table.from_batches

    class Counting:
        @staticmethod
        def from_batches(pieces):
            joined.append(sum(piece.num_rows for piece in pieces))
            return from_batches(pieces)

    monkeypatch.setattr("recsys.scoring.rows.pa", type("Pa", (), {**vars(pa), "Table": Counting}))
    tables = list(whole_users(rows.to_batches(max_chunksize=100), users=1))
    assert joined == [table.num_rows for table in tables] == [5, 100_000, 5]


def test_nothing_is_read_of_rows_of_weight_zero_alone():
    weights = Reading(weights={"5": 0.0, "4": 1.0})
    rows = pa.table({"user_id": [1, 2], "item_id": [1, 2], "rating": [5, 5]})
    assert interactions_of(rows, weights) is None
    assert interactions_of(rows.append_column("seen", pa.array([True, True])), Reading()) is None


def test_the_local_job_holds_ids_and_a_block_beside_the_table():
    """Its table has items that the model does not know, which once made a second table of it."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(30_000), 40), "item_id": rng.integers(0, 300, 1_200_000)})
    data = Interactions.from_frame(frame.drop_duplicates(ignore_index=True))
    model = EASE().fit(data.take_items(np.arange(0, 300, 2)), show_progress=False)
    table = data.matrix.data.nbytes + data.matrix.indices.nbytes
    recommend_frame(model, data, users=[0, 1])  # what is imported and cached at the first call
    tracemalloc.start()
    try:
        recommend_frame(model, data, users=list(range(0, 30_000, 60)), seen=data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < table / 2


def test_few_known_items_are_said_once():
    model = fit(EASE(), SMALL)
    rows = long_rows(users=40, items=200, rows=300, seed=3)
    with pytest.warns(DataWarning, match="interactions of this table are with known items"):
        recommend_frame(model, Interactions.from_frame(rows))
    for histories, seen in ((as_text(SMALL), None), (SMALL, as_text(SMALL).assign(user_id=SMALL["user_id"]))):
        with pytest.raises(DataError, match="interactions of this table is with a known item"):
            recommend_frame(
                model, Interactions.from_frame(histories), seen=None if seen is None else Interactions.from_frame(seen)
            )

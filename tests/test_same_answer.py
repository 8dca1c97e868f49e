"""The same question at every door: Python, the command, the logged model. The same lists, or the same refusal."""

import gzip
import os
import re
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager

import mlflow
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys import recommend_frame, score, tracking
from recsys.cli import main
from recsys.errors import DataError, DataWarning, OutOfRangeError, RecsysError, ScoringError, UnknownIdError
from recsys.interactions import Interactions
from recsys.jobs import serve
from recsys.models import ALS, EASE, MODELS, ItemKNN, Popularity
from recsys.workspace import Workspace
from tests.contract import CASES, csr, fitted, quick

N = 4
USERS, ITEMS = 24, 12


def shop(rng):
    """Pairs of integer ids. Item 12 is stored as zeros alone, so that a model learns nothing of it."""
    pairs = [(user, item) for user in range(1, USERS + 1) for item in range(1, ITEMS + 1) if rng.random() < 0.4]
    frame = pd.DataFrame(pairs, columns=["user_id", "item_id"])
    return frame.assign(rating=np.where(frame["item_id"] == ITEMS, 0.0, 1.0))


TRAINING = shop(np.random.default_rng(7))
TEXT = {"user_id": str, "item_id": str}
TABLES = {"int": Interactions.from_frame(TRAINING), "text": Interactions.from_frame(TRAINING.astype(TEXT))}
TRAINED = {kind: EASE(regularization=3.0).fit(table, show_progress=False) for kind, table in TABLES.items()}


@pytest.fixture(scope="module")
def places(tmp_path_factory, mlflow_template):
    """Of each kind of ids, a folder with the saved model, and the logged model as MLflow loads it."""
    root = tmp_path_factory.mktemp("doors")
    shutil.copytree(mlflow_template / "mlruns", root / "mlruns")
    TRAINING.to_csv(root / "ratings.csv", index=False)
    config = {"data": {"name": "own", "file": str(root / "ratings.csv")}, "model": {"name": "EASE"}}
    found, path = {}, list(sys.path)
    with tracking.start_run(Workspace(root), "doors"):
        for kind, model in TRAINED.items():
            model.save(root / kind, about={"config": config})
            tracking.log_model(model, name=kind, examples=TABLES[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in TRAINED:
            found[kind] = root / kind, mlflow.pyfunc.load_model(f"models:/{kind}/1")
    sys.path[:] = path
    return found


def tonight(rng):
    """A table of some known and some new users and items, of integers or of text; some users have nothing known."""
    n, unknown = rng.integers(1, 12), rng.choice([0.0, 0.3, 0.7, 1.0])
    users = rng.choice(USERS + 12, size=n, replace=False) + 1
    rows = []
    for user in users.tolist():
        for item in rng.choice(ITEMS, size=rng.integers(1, 6), replace=False).tolist():
            new = rng.random() < unknown
            rows.append((user, item + 101 if new else item + 1, float(rng.choice([0.0, 1.0, 3.0]))))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating"])
    if rng.random() < 0.5:
        kept = frame["item_id"].astype(object)
        frame["item_id"] = [f"X{item}" if item > 100 else str(item) for item in kept]
    if rng.random() < 0.5:
        frame["user_id"] = frame["user_id"].astype(str)
    return frame


def popular(model):
    """The items of most training users, ties in the order of the model."""
    counts = TRAINING["item_id"].value_counts()
    return sorted(map(str, model.items_), key=lambda item: -counts[int(item)])[:N]


def meaning(frame):
    """What a table says: by user, the value of each item, both as text."""
    read = {}
    for user, item, value in frame[["user_id", "item_id", "rating"]].itertuples(index=False):
        read.setdefault(str(user), {})[str(item)] = value
    return read


def plain(frame, model):
    """Lists by user in plain Python, None for a refusal; and whether a warning is due."""
    read = meaning(frame)
    names = [str(item) for item in model.items_]
    kept = {user: {item: value for item, value in row.items() if item in names} for user, row in read.items()}
    entries, known = (sum(map(len, rows.values())) for rows in (read, kept))
    if not known:
        return None, False
    few = 2 * known < entries or 2 * sum(map(bool, kept.values())) < len(kept)
    weights, counts = model.weights_.numpy().astype(np.float64), TRAINING["item_id"].value_counts()
    lists = {}
    for user, row in kept.items():
        signal = [value * weights[names.index(item)] for item, value in row.items()]
        scores = np.sum(signal, axis=0) if signal else np.zeros(ITEMS)
        if not scores.any():
            scores = np.array([counts[int(name)] for name in names], dtype=float)
        ranked = sorted(range(ITEMS), key=lambda code: (-scores[code], code))
        lists[user] = [names[code] for code in ranked if names[code] not in row][:N]
    return lists, few


def by_user(frame):
    """Lists by user of a table with a row per recommendation."""
    ordered = frame.sort_values(["user_id", "rank"], kind="stable")
    return {str(user): list(map(str, rows["item_id"])) for user, rows in ordered.groupby("user_id", sort=False)}


class Doors:
    """Each method asks for the lists of a table."""

    def __init__(self, kind, place, folder, capsys):
        self.model, (self.saved, self.pyfunc), self.folder, self.capsys = TRAINED[kind], place, folder, capsys

    def verb(self, frame):
        data = Interactions.from_frame(frame)
        ids, _ = self.model.recommend(np.full(data.shape[0], -1), data, N=N)
        return {
            str(user): [str(item) for item in self.model.items_.ids(row[row >= 0])]
            for user, row in zip(data.users, ids, strict=True)
        }

    def frame(self, frame):
        return by_user(recommend_frame(self.model, Interactions.from_frame(frame), n=N))

    def parts(self, frame):
        score(self.model, Interactions.from_frame(frame), self.folder / "parts", n=N, overwrite=True)
        return by_user(pd.read_parquet(self.folder / "parts"))

    def command(self, file):
        self.capsys.readouterr()
        out = self.folder / f"by-command{file.suffix}"
        if main(["score", *map(str, (self.saved, "--data", file, "--output", out, "-n", N)), "--quiet"]):
            raise RecsysError(self.capsys.readouterr().err)
        return by_user(pd.read_parquet(out))

    def csv(self, frame):
        frame.to_csv(self.folder / "tonight.csv", index=False)
        return self.command(self.folder / "tonight.csv")

    def parquet(self, frame):
        frame.to_parquet(self.folder / "tonight.parquet", index=False)
        return self.command(self.folder / "tonight.parquet")

    def recommended(self, frame):
        frame.to_parquet(self.folder / "shown.parquet", index=False)
        users, file = frame["user_id"].astype(str).unique().tolist(), str(self.folder / "shown.parquet")
        return by_user(serve.recommend(Workspace(progress=False), str(self.saved), users, n=N, data=file))

    def logged(self, frame):
        read = meaning(frame)
        rows = [(user, list(row), list(row.values())) for user, row in read.items()]
        request = pd.DataFrame(rows, columns=["user_id", "items", "ratings"])
        answer = self.pyfunc.predict(request, params={"n": N})
        return dict(zip(answer["user_id"], answer["items"], strict=True))


@contextmanager
def warned():
    """Collect warnings about the data; any other is an error."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("error")
        warnings.simplefilter("always", DataWarning)
        yield found


def check_doors(doors, frame):
    expected, few = plain(frame, doors.model)
    for door in ("verb", "frame", "parts", "csv", "parquet", "recommended"):
        with warned() as found:
            if expected is None:
                with pytest.raises(RecsysError, match="interactions of this table is with a known item"):
                    getattr(doors, door)(frame)
            else:
                assert getattr(doors, door)(frame) == expected, door
        assert len(found) == few, (door, found)
    with warned() as found:  # a request is one of many: even where nothing is known it is served
        answer = doors.logged(frame)
    assert answer == (expected or dict.fromkeys(answer, popular(doors.model)))
    entries, known = len(frame), frame["item_id"].astype(str).isin(list(map(str, doors.model.items_))).sum()
    assert [str(each.message) for each in found] == [
        f"only {known} of the {entries} entries of the request are with items of the model"
    ] * int(2 * known < entries)


@pytest.mark.parametrize("kind", ["int", "text"])
def test_every_door_gives_the_same_lists_or_the_same_refusal(places, kind, tmp_path, capsys):
    rng = np.random.default_rng(0)
    doors = Doors(kind, places[kind], tmp_path, capsys)
    for _ in range(25):
        check_doors(doors, tonight(rng))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_every_door_gives_the_same_lists_or_the_same_refusal_many_times(places, seed, tmp_path, capsys):
    rng = np.random.default_rng(1 + seed)
    for kind in ("int", "text"):
        doors = Doors(kind, places[kind], tmp_path, capsys)
        for _ in range(50):
            check_doors(doors, tonight(rng))


def test_one_new_item_of_text_leaves_the_others_what_they_are(places, tmp_path, capsys):
    """A column of integers with one `X1` is text."""
    doors = Doors("int", places["int"], tmp_path, capsys)
    one = pd.DataFrame({"user_id": [99], "item_id": ["X1"], "rating": [1.0]})
    more = pd.concat([TRAINING.assign(item_id=TRAINING["item_id"].astype(str)), one], ignore_index=True)
    with warned() as found:
        lists = doors.csv(more)
    assert found == []
    assert lists.pop("99") == popular(doors.model)
    assert lists == by_user(recommend_frame(doors.model, TABLES["int"], n=N))
    seen = more.groupby("user_id")["item_id"].agg(set)
    assert all(not set(items) & seen[int(user)] for user, items in lists.items())


def test_ids_of_a_type_that_cannot_match_are_refused_with_both_types(places, tmp_path, capsys):
    dated = TRAINING.assign(item_id=pd.to_datetime(TRAINING["item_id"], unit="D").dt.date)
    doors = Doors("int", places["int"], tmp_path, capsys)
    for door in (doors.verb, doors.frame, doors.parts, doors.parquet, doors.recommended):
        with pytest.raises(
            RecsysError, match=r"item ids of type date, such as .* the same as item ids of type int, such"
        ):
            door(dated)
    strangers = TRAINING.assign(user_id=pd.to_datetime(TRAINING["user_id"], unit="D").dt.date)
    assert list(doors.frame(strangers).values()) == list(doors.frame(TRAINING).values())
    vectors = ALS(factors=2, iterations=1).fit(TABLES["int"], show_progress=False)
    with pytest.raises(
        DataError, match=r"user ids of type date, such as .* the same as user ids of type int, such as 1;"
    ):
        recommend_frame(vectors, Interactions.from_frame(strangers))


def test_users_count_where_a_model_knows_them_by_vector():
    model = ALS(factors=4, iterations=3).fit(TABLES["int"], show_progress=False)
    as_text = Interactions.from_frame(TRAINING.astype({"user_id": str}))
    known, lists = recommend_frame(model, TABLES["int"], n=N), recommend_frame(model, as_text, n=N)
    assert by_user(lists) == by_user(known)
    both = known.merge(lists.astype({"user_id": int}), on=["user_id", "item_id"])
    np.testing.assert_array_equal(both["score_x"], both["score_y"])
    new = Interactions.from_frame(TRAINING.assign(user_id=TRAINING["user_id"] + 17))
    with pytest.warns(DataWarning, match="ALS was trained on 7 of these 24 users and takes the others for strangers: "):
        recommend_frame(model, new)
    with warned() as found:  # who is new is nothing to a model of histories
        recommend_frame(TRAINED["int"], new)
        recommend_frame(Popularity().fit(TABLES["int"], show_progress=False), new)
    assert found == []


def test_every_verb_refuses_a_table_of_other_items():
    model = fitted("MultVAE", TABLES["int"])
    other = Interactions.from_frame(TRAINING.assign(item_id="X" + TRAINING["item_id"].astype(str)))
    calls = (
        lambda: model.recommend([0], other.take_users([0])),
        lambda: model.recommend([0], TABLES["int"].take_users([0]), seen=other.take_users([0])),
        lambda: model.recommend_users(0, other),
        lambda: model.encode(other),
        lambda: model.similar_users(0, user_items=other),
        lambda: recommend_frame(model, TABLES["int"], seen=other),
        lambda: fitted("UAutoRec", TABLES["int"], unobserved_weight=0.0).predict([0], other.take_users([0]), [[0]]),
    )
    for call in calls:
        with pytest.raises(DataError, match="interactions of this table is with a known item: its ids are like 'X1"):
            call()


def test_evaluate_says_how_the_items_differ(places, tmp_path, capsys):
    """The same items as text are in another order, in which the columns of a split are."""
    TRAINING.astype(TEXT).to_parquet(tmp_path / "text.parquet")
    TRAINING.assign(item_id=TRAINING["item_id"].map(lambda item: f"X{item}")).to_parquet(tmp_path / "other.parquet")
    for name, known in (("text", 12), ("other", 0)):
        (tmp_path / "job.toml").write_text(
            f'[data]\nname = "own"\nfile = "{tmp_path / name}.parquet"\n[split]\nkind = "hold_out_ratings"\n'
            '[model]\nname = "EASE"\n'
        )
        assert main(["evaluate", str(places["int"][0]), "--config", str(tmp_path / "job.toml"), "--quiet"]) == 3
        assert f"knows 12 items and this split has 12, of which the model knows {known}: " in capsys.readouterr().err


# Listed users

LISTED = st.lists(st.sampled_from([1, 2, 12, "1", "12", "24", "024", " 3", "X1", 99, "99", 3.0, True]), max_size=6)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from(["int", "text"]), LISTED, st.sampled_from(["raise", "drop"]))
def test_listed_users_are_found_by_what_their_ids_mean(kind, users, on_unknown):
    model = TRAINED["int"]
    data = TABLES["int"] if kind == "int" else Interactions.from_frame(TRAINING.astype({"user_id": str}))
    names = {str(user) for user in data.users}
    asked = [str(int(user)) if kind == "int" and user == 3.0 and user is not True else str(user) for user in users]
    known = [user for user in asked if user in names]
    with warned() as found:
        if on_unknown == "raise" and len(known) < len(asked):
            with pytest.raises(UnknownIdError, match=f"{len(asked) - len(known)} of {len(asked)} ids are unknown"):
                recommend_frame(model, data, users, n=N)
        elif len(set(known)) < len(known):
            with pytest.raises(DataError, match="users must name each user once"):
                recommend_frame(model, data, users, n=N, on_unknown=on_unknown)
        elif not known:
            with pytest.raises(ScoringError, match="no users to score"):
                recommend_frame(model, data, users, n=N, on_unknown=on_unknown)
        else:
            lists = recommend_frame(model, data, users, n=N, on_unknown=on_unknown)
            assert lists["user_id"].astype(str).unique().tolist() == known
    if on_unknown == "drop" and 0 < 2 * len(known) < len(asked):
        assert str(found[0].message).startswith(
            f"only {len(known)} of the {len(asked)} users asked for are in the data"
        )
    else:
        assert found == []


FILES = {
    "lines.txt": b"3\n12\n\n 7 \n",
    "marked.txt": b"\xef\xbb\xbf3\r\n12\r\n7",
    "old-mac.txt": b"3\r12\r7\r",
    "no-suffix": b"3\n12\n7\n",
    "wide.txt": "3\r\n12\r\n7\r\n".encode("utf-16"),
    "excel.csv": b"user_id;name\r\n3;Me\r\n12;You\r\n7;They\r\n",
    "plain.csv": b"name,user_id\nMe,3\nYou,12\n\nThey,7\n",
    "marked.csv": b'\xef\xbb\xbf"user_id",name\r\n3,"Me, Myself"\r\n12,You\r\n7,"a\nb"\r\n',
}
FRAMES = {
    "integers": pd.DataFrame({"user_id": [3, 12, 7]}),
    "text": pd.DataFrame({"user_id": ["3", "12", "7"], "name": ["Me", "You", "They"]}),
    "index": pd.DataFrame({"name": ["Me", "You", "They"]}, index=pd.Index([3, 12, 7], name="user_id")),
    "categories": pd.DataFrame({"user_id": pd.Categorical(["3", "12", "7"])}),
    "small": pd.DataFrame({"user_id": np.array([3, 12, 7], dtype=np.uint8)}),
    "floats": pd.DataFrame({"user_id": [3.0, 12.0, 7.0]}),
}


def listed(place, folder, file, *more, data=None):
    """The exit status of `recsys score --users FILE`, and the users scored."""
    out = folder / "listed"
    options = [] if data is None else ["--data", data]
    status = main([*map(str, ("score", place[0], "--output", out, "--users", file, *options, *more)), "--quiet"])
    return status, [] if status else pd.read_parquet(out)["user_id"].astype(str).unique().tolist()


@pytest.mark.parametrize("name", [*FILES, *FRAMES])
@pytest.mark.parametrize("text", [False, True], ids=["data of integers", "data of text"])
def test_a_list_of_users_is_read_whatever_wrote_it(places, tmp_path, name, text):
    file = tmp_path / (name if name in FILES else f"{name}.parquet")
    if name in FILES:
        file.write_bytes(FILES[name])
    else:
        FRAMES[name].to_parquet(file)
    data = None
    if text:
        data = tmp_path / "tonight.parquet"
        TRAINING.astype(TEXT).to_parquet(data)
    status, users = listed(places["int"], tmp_path, file, data=data)
    if text and name == "floats":
        assert status == 4
    else:
        assert (status, users) == (0, ["3", "12", "7"])


PIPED = {
    "lines": b"3\n12\n\n 7 \n",
    "packed lines": gzip.compress(b"3\n12\n7\n", mtime=0),
    "wide lines": "3\r\n12\r\n7\r\n".encode("utf-16"),
    "table": FILES["excel.csv"],
    "packed table": gzip.compress(FILES["marked.csv"], mtime=0),
    "one column": b"user_id\n3\n12\n7\n",
}


@pytest.mark.parametrize("name", [*PIPED, *FRAMES])
def test_a_list_of_users_is_read_from_a_pipe_too(places, tmp_path, name):
    pipe = tmp_path / "users"
    os.mkfifo(pipe)
    content = PIPED.get(name)
    if content is None:
        FRAMES[name].to_parquet(tmp_path / "users.parquet")
        content = (tmp_path / "users.parquet").read_bytes()
    writer = threading.Thread(target=pipe.write_bytes, args=(content,))
    writer.start()
    found = listed(places["int"], tmp_path, pipe)
    writer.join()
    assert found == (0, ["3", "12", "7"])


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"3\n003\n", 4, r"1 of the 2 users in /dev/stdin are not in the data, for instance \['003'\] "),
        (b"user_id,name\n3\n", 3, r"/dev/stdin must be a csv file with .*: line 2 has 1 fields, expected 2"),
        (b"PAR1", 3, "the list of users /dev/stdin cannot be read: "),
        (b"", 3, "there are no users to score"),
    ],
)
def test_what_comes_through_standard_input_is_refused_by_its_name(places, tmp_path, content, code, message):
    words = ["score", str(places["int"][0]), "--output", str(tmp_path / "out"), "--users", "-", "--quiet"]
    ended = subprocess.run([sys.executable, "-m", "recsys", *words], input=content, capture_output=True, check=False)
    assert ended.returncode == code
    assert re.search(message, ended.stderr.decode())


def test_a_list_of_users_may_be_a_range_that_pandas_stored_as_the_index(places, tmp_path):
    frame = pd.DataFrame({"x": [0, 0]}, index=pd.RangeIndex(3, 13, 9, name="user_id"))
    frame.to_parquet(tmp_path / "users.parquet")
    assert listed(places["int"], tmp_path, tmp_path / "users.parquet") == (0, ["3", "12"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("users.csv.gz", gzip.compress(b"user_id\n3\n" * 50, mtime=0)[:-12], "it cannot be unpacked"),
        ("users.txt.gz", gzip.compress(b"3\n" * 50, mtime=0)[:-12], "it cannot be unpacked"),
        ("users.csv", "user_id\n3\n".encode("utf-16-le"), "holds zero bytes, so perhaps data.encoding = 'utf-16'"),
        ("users.txt", "Zoë".encode("latin-1"), "cannot be read: 'utf-8' codec can't decode"),
        (
            "users.csv",
            b"3\n12\n",
            "must be a csv file with a header and a column user_id: the first line '3' holds numbers",
        ),
        ("users.csv", b"", "must be a csv file with a header and a column user_id: it holds no line"),
        ("users.csv", b"who;name\n3;Me\n", "has no column user_id; it has who, name"),
        ("users.csv", b"name,user_id\nMe, Myself,3\n", "line 2 has 3 fields, expected 2"),
        ("users.csv", b"user_id,user_id\n3,4\n", "the header names 'user_id' more than once"),
        ("users.parquet", b"PAR1", "cannot be read: "),
        (
            "users.txt",
            b"3\n003\n3.0\n",
            "2 of the 3 users in .* are not in the data, for instance .*'003', '3.0'.* like 1",
        ),
    ],
)
def test_a_list_of_users_that_is_not_one_is_refused_with_the_reason(places, tmp_path, capsys, name, content, message):
    (tmp_path / name).write_bytes(content)
    code = 4 if "not in the data" in message else 3
    assert listed(places["int"], tmp_path, tmp_path / name) == (code, [])
    assert re.search(message, capsys.readouterr().err)


def test_ids_with_leading_zeros_are_ids_of_their_own(places, tmp_path):
    padded = {"user_id": lambda frame: [f"{user:03}" for user in frame["user_id"]]}
    TRAINING.assign(**padded).to_parquet(tmp_path / "tonight.parquet")
    (tmp_path / "users.txt").write_text("003\n3\n012\n")
    found = listed(
        places["int"], tmp_path, tmp_path / "users.txt", "--on-unknown", "drop", data=tmp_path / "tonight.parquet"
    )
    assert found == (0, ["003", "012"])


# Users without a usable history


def without_a_sign(name):
    """A model, and histories of which it can make nothing: empty, of zeros, of an item that nobody has."""
    cells = np.where(np.random.default_rng(3).random((20, 10)) < 0.4, 1.0, np.nan)
    cells[:, 7] = np.nan
    cells[:, 8] = np.where(np.isnan(cells[:, 8]), np.nan, 2.0)  # so that no model finds all values equal
    model = fitted(name, csr(cells), **quick(MODELS[name]))
    asked = np.full((3, 10), np.nan)
    asked[1, [2, 5]] = 0.0
    asked[2, 7] = 5.0
    return model, csr(asked)


@pytest.mark.parametrize("name", CASES)
def test_a_user_without_a_usable_history_gets_the_popular_items(name):
    """What a model makes of an empty history, or the items by their share of users; never zeros in order of items."""
    model, histories = without_a_sign(name)
    read_as_values = MODELS[name].capabilities.rates or name == "BPR"  # a stored zero is a rating of 0, or an item met
    ids, scores = model.recommend(np.full(3, -1), histories, N=10, filter_already_liked_items=False)
    for row in (2,) if read_as_values and not model.capabilities.popularity_fallback else (1, 2):
        np.testing.assert_array_equal(ids[row], ids[0])
        np.testing.assert_allclose(scores[row], scores[0], rtol=1e-5)
    assert (scores[:, 0] != scores[:, -1]).all()
    if model.capabilities.popularity_fallback:
        np.testing.assert_array_equal(ids[0], np.lexsort((np.arange(10), -model.popularity_)))
        np.testing.assert_array_equal(scores[0], np.sort(model.popularity_)[::-1])
    filtered = model.recommend(np.full(3, -1), histories, N=10)[0]
    assert [np.setdiff1d(np.arange(10), row[row >= 0]).tolist() for row in filtered] == [[], [2, 5], [7]]


def test_who_has_a_sign_for_some_items_alone_is_not_silent():
    """Scores of 0 for the items asked of do not make a user a stranger."""
    pairs = sp.block_diag([np.ones((3, 2)), np.ones((5, 2))]).tocsr()
    model = ItemKNN(neighbors=4).fit(pairs, show_progress=False)
    one = csr([[1, np.nan, np.nan, np.nan]])
    ids, scores = model.recommend([-1], one, items=[2, 3])
    assert (ids.tolist(), scores.tolist()) == ([[2, 3]], [[0.0, 0.0]])
    ids, scores = model.recommend([-1], csr([[np.nan] * 4]), items=[1, 2, 3])
    assert (ids.tolist(), scores.tolist()) == ([[2, 3, 1]], [[0.625, 0.625, 0.375]])


# Empty slots


def test_an_empty_slot_never_shows(tmp_path, places, capsys):
    """Every user has met nearly all items: lists are short, and no frame, file or print has an id of -1."""
    full = pd.DataFrame([(user, item) for user in range(1, 5) for item in range(1, ITEMS + 1 - user % 2)])
    full.columns = ["user_id", "item_id"]
    doors = Doors("int", places["int"], tmp_path, capsys)
    lists = {"1": ["12"], "3": ["12"]}
    full = full.assign(rating=1.0)
    assert doors.frame(full) == doors.parts(full) == doors.csv(full) == doors.recommended(full) == lists
    assert doors.logged(full) == lists | {"2": [], "4": []}
    assert not re.search(r"(^|\s)-1\b", capsys.readouterr().out)
    ids, scores = doors.model.recommend([-1], Interactions.from_frame(full[full["user_id"] == 1]), N=3)
    assert (ids.tolist(), scores[0, 1]) == ([[11, -1, -1]], -np.finfo(np.float32).max)
    with pytest.raises(OutOfRangeError, match=r"-1 marks an empty slot of a list: keep ids\[ids >= 0\]"):
        doors.model.items_.ids(ids)
    history = csr([[1.0] * 3 + [np.nan] * (ITEMS - 3)])
    assert doors.model.recommend([-1], history, items=[0, 1])[0].tolist() == [[-1, -1]]

"""Every public layout, from small files made here, gives the same interactions."""

import numpy as np
import pandas as pd
import pytest

from recsys.config import check_config
from recsys.datasets import READERS, Reader, read, readers, register_reader
from recsys.errors import ConfigError, DataError
from recsys.interactions import Interactions

ROWS = pd.DataFrame(
    {
        "user_id": [3, 1, 1, 20, 3],
        "item_id": [7, 7, 11, 400, 11],
        "rating": [4.0, 3.5, 0.5, 5.0, 2.0],
        "timestamp": [978300760, 978302109, 978301968, 978300275, 978824291],
    }
)
EXPECTED = Interactions.from_frame(ROWS)
TITLES = ["Été: a Film (1995)", "Who|What::Where (1987)", "400"]
"""Of items 7, 11 and 400: accents, the separators of both publishers' files, and a film without a title."""


def lines(separator, header=None):
    body = [separator.join(map(str, row)) for row in ROWS.itertuples(index=False)]
    return "".join(f"{line}\n" for line in ([header] if header else []) + body)


def u_item(folder, encoding):
    fields = "|01-Jan-1995||http://x|" + "|".join("0" * 19)
    text = "".join(f"{item}|{title}{fields}\n" for item, title in zip([7, 11], TITLES, strict=False))
    (folder / "u.item").write_bytes(text.encode(encoding))


def movies_dat(folder, encoding):
    text = "".join(f"{item}::{title}::Drama|War\r\n" for item, title in zip([7, 11], TITLES, strict=False))
    (folder / "movies.dat").write_bytes(text.encode(encoding))


def check(data, titles=None):
    assert data.fingerprint() == EXPECTED.fingerprint()
    assert (data.titles is None) if titles is None else (data.titles.tolist() == titles)


@pytest.mark.parametrize("layout", ["auto", "u.data"])
def test_u_data(tmp_path, layout):
    (tmp_path / "u.data").write_text(lines("\t"))
    check(read(tmp_path, layout=layout))
    u_item(tmp_path, "latin-1")
    check(read(tmp_path, layout=layout), TITLES)
    check(read(tmp_path / "u.data", layout=layout))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8"])
@pytest.mark.parametrize("layout", ["auto", "ratings.dat"])
def test_ratings_dat(tmp_path, layout, encoding):
    (tmp_path / "ratings.dat").write_text(lines("::"))
    movies_dat(tmp_path, encoding)
    check(read(tmp_path, layout=layout), TITLES)
    check(read(tmp_path / "ratings.dat", layout=layout))


def test_a_title_with_a_line_separator_of_another_alphabet_stays_whole(tmp_path):
    (tmp_path / "ratings.dat").write_text(lines("::"))
    (tmp_path / "movies.dat").write_bytes(b"7::Wait\x85 What (1995)::Drama\n11::b::War\n")
    assert read(tmp_path).title(0) == "Wait\x85 What (1995)"


@pytest.mark.parametrize("layout", ["auto", "ratings.csv"])
def test_ratings_csv(tmp_path, layout):
    (tmp_path / "ratings.csv").write_text(lines(",", "userId,movieId,rating,timestamp"))
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n7,"Été: a Film (1995)",Drama\n11,Who|What::Where (1987),War\n', encoding="utf-8"
    )
    check(read(tmp_path, layout=layout), TITLES)
    check(read(tmp_path / "ratings.csv", layout=layout))


@pytest.mark.parametrize(("name", "separator"), [("mine.csv", ","), ("mine.tsv", "\t"), ("ratings.csv", ",")])
def test_csv_with_a_header(tmp_path, name, separator):
    header = separator.join(ROWS.columns)
    (tmp_path / name).write_text("\ufeff" + lines(separator, header), encoding="utf-8")
    check(read(tmp_path / name))


def test_a_folder_with_ratings_csv_of_other_columns_is_read_by_its_header(tmp_path):
    (tmp_path / "ratings.csv").write_text(lines(",", ",".join(ROWS.columns)))
    check(read(tmp_path))


def test_csv_takes_named_columns_and_leaves_the_others_out(tmp_path):
    table = ROWS.rename(columns={"user_id": "who", "item_id": "what", "rating": "stars", "timestamp": "when"})
    table.assign(fold=[1, 2, 1, 2, 1], note="x").to_csv(tmp_path / "wide.csv", index=False)
    data = read(tmp_path / "wide.csv", user="who", item="what", rating="stars", timestamp="when", keep=["fold"])
    check(data)
    assert data.columns["fold"].tolist() == [2, 1, 1, 1, 2]
    with pytest.raises(DataError, match="'whom' is not in the table; did you mean 'who'"):
        read(tmp_path / "wide.csv", user="whom", item="what")
    with pytest.raises(DataError, match="'star' is not in the table; did you mean 'stars'"):
        read(tmp_path / "wide.csv", user="who", item="what", rating="star")


def test_an_id_that_reads_like_a_missing_value_stays_an_id(tmp_path):
    (tmp_path / "x.csv").write_text("user_id,item_id\nNA,null\nbob,nan\n")
    data = read(tmp_path / "x.csv")
    assert sorted(data.users) == ["NA", "bob"]
    assert sorted(data.items) == ["nan", "null"]


def test_rating_none_counts_every_row_as_one(tmp_path):
    (tmp_path / "u.data").write_text(lines("\t"))
    assert read(tmp_path, rating=None).matrix.data.tolist() == [1.0] * 5


@pytest.mark.parametrize("layout", ["auto", "recbole"])
def test_recbole(tmp_path, layout):
    header = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
    (tmp_path / "small.inter").write_text(lines("\t", header))
    tokens = Interactions.from_frame(ROWS.astype({"user_id": str, "item_id": str}))
    assert read(tmp_path, layout=layout).fingerprint() == tokens.fingerprint()
    assert read(tmp_path / "small.inter", layout=layout).fingerprint() == tokens.fingerprint()


def test_recbole_with_several_files_asks_which(tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"small.{part}.inter").write_text("user_id:token\titem_id:token\n1\t2\n")
    with pytest.raises(DataError, match=r"2 files \*.inter"):
        read(tmp_path)


@pytest.mark.parametrize("layout", ["auto", "parquet"])
def test_parquet(tmp_path, layout):
    ROWS.assign(split=["a", "b", "c", "d", "e"], other=0).to_parquet(tmp_path / "interactions.parquet")
    check(read(tmp_path, layout=layout))
    pd.DataFrame({"item_id": [7, 11, 9], "title": [*TITLES[:2], "unrated"], "year": 1}).to_parquet(
        tmp_path / "items.parquet"
    )
    data = read(tmp_path, layout=layout, keep=["split"])
    check(data, TITLES)
    assert data.columns["split"].tolist() == ["b", "c", "a", "e", "d"]
    (tmp_path / "interactions.parquet").rename(tmp_path / "named")
    check(read(tmp_path / "named", layout=layout))


def test_titles_of_the_caller_come_first(tmp_path):
    ROWS.to_parquet(tmp_path / "interactions.parquet")
    pd.DataFrame({"item_id": [7, 11], "title": ["theirs", "b"]}).to_parquet(tmp_path / "items.parquet")
    assert read(tmp_path, titles={7: "mine"}).title(0) == "mine"


def test_lightgcn_folder_keeps_which_list_an_entry_came_from(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 2 9\n1 \n4 2\n")
    (tmp_path / "test.txt").write_text("0 7\n4 9 5 \n\n")
    for data in (read(tmp_path), read(tmp_path, layout="lightgcn", keep=["split"])):
        assert data.users.ids().tolist() == [0, 4]
        rows = list(zip(*data.to_frame()[["user_id", "item_id", "split"]].to_numpy().T.tolist(), strict=True))
        assert rows == [
            (0, 2, "train"),
            (0, 5, "train"),
            (0, 7, "test"),
            (0, 9, "train"),
            (4, 2, "train"),
            (4, 5, "test"),
            (4, 9, "test"),
        ]


def test_one_lightgcn_list_has_no_split(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 2\n1 2\n")
    (tmp_path / "test.txt").write_text("0 7\n")
    data = read(tmp_path / "train.txt")
    assert data.columns == {}
    assert data.matrix.toarray().tolist() == [[1, 1], [1, 0]]


def test_a_pair_in_both_lists_is_refused_unless_a_policy_is_chosen(tmp_path):
    (tmp_path / "train.txt").write_text("0 5 2\n")
    (tmp_path / "test.txt").write_text("0 5\n")
    with pytest.raises(DataError, match="1 rows repeat a user and item"):
        read(tmp_path)
    assert read(tmp_path, duplicates="max").nnz == 2


def test_auto_reads_the_named_parquet_first_and_a_named_layout_overrides_it(tmp_path):
    ROWS.to_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "u.data").write_text("1\t2\t3\t4\n")
    assert read(tmp_path).nnz == 5
    assert read(tmp_path, layout="u.data").nnz == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("u.data", b"", "is empty; expected one of the layouts parquet .* recbole"),
        ("notes.md", b"# Notes\nhello, world\n", "not recognized; .* parquet .* recbole"),
        ("image", b"\x89PNG\r\n\x1a\n\x00\x00", "not recognized"),
        ("broken.parquet", b"PAR1 and no more", "as parquet"),
        ("header.csv", b"user_id,item_id,rating\n", "no rows"),
        ("cut.dat", b"1::2::3::4\n5::6::7", "line 2 has 3 fields, expected 4"),
        ("gap.dat", b"1::2::3::4\n5::6::::7", "1 rows lack a field, the first is row 2"),
        ("long.dat", b"1::2::3::4\n5::6::7::8::9\n", "as ratings.dat: .*line 2"),
        ("words.dat", b"1::2::3::4\n5::6::many::8\n", "'rating' must hold numbers"),
        ("list.txt", b"1 2 3\n4 five 6\n", "lines of integers"),
        ("cut.csv", b"user_id,item_id,rating\n1,2,3\n4,5,\n", "NaN or infinite"),
        ("latin.csv", b"user_id,item_id\n\xe9,1\n", "as csv: line 2 is not UTF-8 .byte 0xe9.*encoding="),
    ],
)
def test_an_unusable_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"(?s){name}.*{message}"):
        read(tmp_path / name)


def test_a_file_that_does_not_fit_the_named_layout_is_refused(tmp_path):
    (tmp_path / "x").write_text("1,2\n3,4\n")
    with pytest.raises(DataError, match=r"as u\.data: expected user, item, rating"):
        read(tmp_path / "x", layout="u.data")


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="found nothing"):
        read(tmp_path / "absent")
    with pytest.raises(DataError, match=r"expected one of interactions.parquet, u.data.*found \[\]"):
        read(tmp_path)
    (tmp_path / "u.data").write_text(lines("\t"))
    with pytest.raises(DataError, match=r"expected one of ratings.dat in .*found \['u.data'\]"):
        read(tmp_path, layout="ratings.dat")
    with pytest.raises(DataError, match="give the path of the file"):
        read(tmp_path, layout="csv")
    with pytest.raises(DataError, match=r"did you mean 'ratings\.dat'"):
        read(tmp_path, layout="rating.dat")


def test_many_rows_between_double_colons_arrive_in_full(tmp_path):
    rng = np.random.default_rng(0)
    pairs = rng.permutation(400 * 300)[:50_000]
    table = pd.DataFrame(
        {
            "user_id": pairs // 300 + 1,
            "item_id": pairs % 300 + 1,
            "rating": rng.integers(1, 11, 50_000) / 2,
            "timestamp": rng.integers(9e8, 1e9, 50_000),
        }
    )
    text = "\n".join("::".join(map(str, row)) for row in table.itertuples(index=False))
    (tmp_path / "ratings.dat").write_text(text)
    assert read(tmp_path).fingerprint() == Interactions.from_frame(table).fingerprint()


def test_one_column_to_keep_is_a_name_and_not_letters(tmp_path):
    (tmp_path / "plays.csv").write_text("user_id,item_id,split\na,x,train\na,y,test\n")
    assert set(read(tmp_path / "plays.csv", keep="split").columns) == {"split"}


@pytest.fixture
def plays():
    """A registered layout of the project's own: lines `PLAY who what stars`, beside notes.txt with titles."""
    registered = dict(READERS)

    def rows(path, columns):
        table = pd.read_csv(path, sep=" ", names=["word", "who", "what", "rating"])
        return table[columns(list(table.columns))]

    reader = Reader(
        name="plays",
        about="lines PLAY who what stars",
        read=rows,
        recognizes=lambda first_line, path: first_line.startswith("PLAY "),
        in_folder="*.plays",
        items=lambda folder, request: pd.DataFrame(
            {"what": ["x"], "title": [(folder / "notes.txt").read_text()], "mood": ["calm"]}
        ),
        columns={"user": "who", "item": "what"},
    )
    yield register_reader(reader)
    readers._REGISTERED.clear()
    readers._REGISTERED.update(registered)


def test_a_reader_registered_at_run_time_is_found_by_itself_and_by_name(plays, tmp_path):
    file = tmp_path / "night.plays"
    file.write_text("PLAY a x 5\nPLAY b x 3\nPLAY b y 1\n")
    (tmp_path / "notes.txt").write_text("The X")
    (tmp_path / "u.data").write_text(lines("\t"))
    for path in (file, tmp_path):
        for layout in ("auto", "plays"):
            data = read(path, layout=layout)
            assert data.matrix.toarray().tolist() == [[5, 0], [3, 1]]
            assert data.title(0) == ("The X" if path == tmp_path else "x")
            assert {name: values.tolist() for name, values in data.item_columns.items()} == (
                {"mood": ["calm", None]} if path == tmp_path else {}
            )
            section = {"file": str(path), "layout": layout}
            assert check_config({"data": section}).load_data().fingerprint() == data.fingerprint()
    assert read(tmp_path, layout="u.data").fingerprint() == EXPECTED.fingerprint()
    file.write_text("PLEY a x 5\n")
    with pytest.raises(DataError, match=r"not recognized; .* known: plays \(lines PLAY who what stars\), parquet"):
        read(file)
    with pytest.raises(DataError, match="there is no layout 'play'; did you mean 'plays'"):
        read(file, layout="play")


def test_what_cannot_be_a_reader_is_refused(plays):
    for given in (pd.read_csv, Reader(name="auto", about="anything", read=plays.read)):
        with pytest.raises(ConfigError, match=r"register_reader takes a recsys\.datasets\.Reader with a name"):
            register_reader(given)
    assert register_reader(Reader(name="u.data", about="mine", read=plays.read)).about == "mine"
    assert list(READERS)[:2] == ["u.data", "plays"]
    assert len(READERS) == 10

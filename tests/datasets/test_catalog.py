"""Known data sets are found by name."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys.datasets import NAMES, catalog, load, synthetic
from recsys.errors import DataError


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """A working directory without data, and no shared data either."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RECSYS_DATA", raising=False)
    return tmp_path


def place(folder, rating):
    folder.mkdir(parents=True)
    (folder / "u.data").write_text(f"1\t2\t{rating}\t4\n")


def test_the_shared_folder_comes_before_the_projects_own_and_a_path_before_both(empty, monkeypatch):
    place(empty / "data" / "raw" / "ml-100k", 1)
    assert load("ml-100k").matrix.data.tolist() == [1.0]
    place(empty / "shared" / "ml-100k", 2)
    monkeypatch.setenv("RECSYS_DATA", str(empty / "shared"))
    assert load("ml-100k").matrix.data.tolist() == [2.0]
    place(empty / "elsewhere", 3)
    assert load("ml-100k", path=empty / "elsewhere").matrix.data.tolist() == [3.0]


def test_what_lies_nowhere_is_fetched_into_data_raw(empty, monkeypatch):
    asked = []

    def fetch(archive, target):
        asked.append((archive.file, target))
        place(target, 4)
        return target

    monkeypatch.setattr(catalog, "fetch", fetch)
    monkeypatch.setenv("RECSYS_DATA", str(empty / "shared"))
    assert load("ml-100k").matrix.data.tolist() == [4.0]
    assert load("ml-100k").matrix.data.tolist() == [4.0]
    assert asked == [("ml-100k.zip", Path("data/raw/ml-100k"))]


def test_an_empty_folder_counts_as_nothing(empty, monkeypatch):
    (empty / "data" / "raw" / "douban-monti").mkdir(parents=True)
    with pytest.raises(DataError, match="there is no copy"):
        load("douban-monti")


@pytest.mark.parametrize("name", ["gowalla-lightgcn", "douban-monti", "citeulike-a"])
def test_without_a_publisher_the_message_says_where_to_put_a_copy(empty, name, monkeypatch):
    with pytest.raises(DataError, match=rf"looked for data/raw/{name} \(\$RECSYS_DATA is not set\); put .*path="):
        load(name)
    monkeypatch.setenv("RECSYS_DATA", "/nowhere")
    with pytest.raises(DataError, match=f"looked for /nowhere/{name} and data/raw/{name}; put "):
        load(name)


def test_a_path_that_is_not_there_is_refused_without_a_download(empty):
    with pytest.raises(DataError, match="found nothing"):
        load("ml-1m", path=empty / "absent")


def test_an_unknown_name_is_refused_with_the_nearest(empty):
    with pytest.raises(DataError, match=r"no data set is called 'ml-1k'; did you mean 'ml-1.*read\(path\)"):
        load("ml-1k")
    with pytest.raises(DataError, match="known: citeulike-a, douban-monti, gowalla-lightgcn, ml-100k"):
        load("netflix")


def test_options_and_kept_columns_reach_the_reader(empty):
    pd.DataFrame({"u": [1, 1], "item_id": [2, 2], "split": ["train", "test"]}).to_parquet(empty / "mine.parquet")
    data = load("douban-monti", path=empty / "mine.parquet", user="u", duplicates="sum", keep=["split"])
    assert data.matrix.data.tolist() == [2.0]
    assert data.columns["split"].tolist() == ["test"]


def test_synthetic_takes_the_options_of_the_generator(empty):
    data = load("synthetic", users=30, items=20, interactions=200, seed=3)
    assert data.fingerprint() == synthetic(30, 20, 200, seed=3).fingerprint()
    with pytest.raises(DataError, match="no path and no columns"):
        load("synthetic", path=empty)
    with pytest.raises(DataError, match="no path and no columns"):
        load("synthetic", keep=["split"])


PUBLISHED = {
    "ml-100k": ((943, 1682), {1: 6110, 2: 11370, 3: 27145, 4: 34174, 5: 21201}, "split_ua", 943 * 10),
    "ml-1m": ((6040, 3706), {1: 56174, 2: 107557, 3: 261197, 4: 348971, 5: 226310}, "split_time", 100_021),
    "gowalla-lightgcn": ((29_858, 40_981), {1: 1_027_370}, "split", 217_242),
    "douban-monti": ((2999, 3000), {1: 1876, 2: 8338, 3: 47811, 4: 50748, 5: 28118}, "split", 13_689),
    "citeulike-a": ((5551, 16_980), {1: 204_986}, None, 0),
}
"""Shape, histogram of values, a column with a published split (None: there is none) and the size of its test part."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_real_data_has_the_published_counts(name):
    folder = Path(os.environ.get("RECSYS_DATA", "data/raw")) / name
    if not (folder / "interactions.parquet").exists():
        pytest.skip(f"no {folder}/interactions.parquet; set RECSYS_DATA to a folder that holds {name}")
    shape, histogram, split, n_test = PUBLISHED[name]
    data = load(name, keep=[split] if split else [])
    assert split is None or (data.columns[split] == "test").sum() == n_test
    assert data.shape == shape
    values, counts = np.unique(data.matrix.data, return_counts=True)
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == histogram
    assert (data.titles is not None) == name.startswith("ml-")
    if data.titles is not None:
        assert sum(title.isdigit() for title in data.titles) == 0


def test_names_are_those_of_the_readme():
    assert NAMES == (
        "ml-100k",
        "ml-1m",
        "ml-10m",
        "ml-20m",
        "ml-25m",
        "ml-32m",
        "gowalla-lightgcn",
        "douban-monti",
        "citeulike-a",
        "synthetic",
    )
    readme = (Path(__file__).parents[2] / "data" / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        assert f"`{name}`" in readme
    for archive in catalog.ARCHIVES.values():
        assert archive.md5 in readme

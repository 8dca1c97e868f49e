"""The bundle on disk: complete or refused, and never at the cost of what was there before."""

import datetime
import json
import math
import os
import pickle
import pickletools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recsys import artifacts, files
from recsys.artifacts import SCHEMA, Bundle, read_bundle, write_bundle
from recsys.errors import BundleError
from recsys.files import replace_folder
from recsys.ids import IdMap

FILES = ["config.json", "items.parquet", "metrics.json", "users.parquet", "weights.safetensors"]


@pytest.fixture
def bundle():
    return Bundle(
        model="EASE",
        module="recsys.models.linear",
        params={"l2": 0.1, "hidden": [600, 200], "device": None, "name": "Ä"},
        state={"mean": 3.5, "n_items": 3},
        arrays={
            "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
            "transposed": np.arange(6, dtype=np.float64).reshape(2, 3).T,
            "strided": np.arange(10, dtype=np.int32)[::3],
            "scalar": np.array(2.5, dtype=np.float32),
            "empty": np.empty((0, 4), dtype=np.int64),
            "mask": np.array([True, False]),
        },
        users=IdMap([30, 10]),
        items=IdMap(["c", "a", "ü"]),
        titles=np.array(["Sea", "", "日本"], dtype=object),
        metrics={"ndcg@10": 0.25, "recall@5": math.nan},
        about={"data": {"name": "ml-1m"}, "run": None},
    )


def assert_same(found, expected):
    for name in ("model", "module", "params", "state", "users", "items", "about"):
        assert getattr(found, name) == getattr(expected, name), name
    np.testing.assert_equal(dict(found.metrics), dict(expected.metrics))
    assert found.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        assert (found.arrays[name].shape, found.arrays[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(found.arrays[name], array)
    np.testing.assert_array_equal(found.titles, expected.titles)


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_bundle_comes_back_as_it_was(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "deep" / "model")
    assert_same(read_bundle(tmp_path / "deep" / "model"), bundle)
    assert_same(read_bundle(str(tmp_path / "deep" / "model")), bundle)


def test_ids_and_titles_are_optional(bundle, tmp_path):
    bare = Bundle("Popularity", {}, {}, {"counts": np.ones(3)})
    write_bundle(bare, tmp_path / "bare")
    assert_same(read_bundle(tmp_path / "bare"), bare)
    untitled = replace(bundle, titles=None)
    write_bundle(untitled, tmp_path / "untitled")
    assert read_bundle(tmp_path / "untitled").titles is None


def test_a_bundle_is_plain_files_without_code(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    assert sorted(file.name for file in (tmp_path / "model").iterdir()) == FILES
    for name, content in contents(tmp_path / "model").items():
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(content))
        assert b"pickle" not in content, name
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["schema"] == SCHEMA
    assert sorted(config["files"]) == [name for name in FILES if name != "config.json"]


@pytest.mark.parametrize(
    "ids",
    [
        IdMap([2**62, -1, 0]),
        IdMap(["007", "7", ""]),
        IdMap([datetime.date(2020, 1, 2), datetime.date(2020, 1, 1)]),
        IdMap([datetime.datetime(2020, 1, 2, 3, 4, 5, 6)]),
        IdMap(pd.to_datetime(["2020-01-02", "2020-01-01"])),
        IdMap(pd.to_datetime(["2020-01-02", "2020-01-01"]).as_unit("ns") + pd.Timedelta(1, "ns")),
        IdMap(pd.to_datetime(["2020-01-02"]).tz_localize("Europe/Paris")),
        IdMap([b"\x00", b"\xff"]),
        IdMap([True, False]),
    ],
    ids=["int", "str", "date", "datetime", "datetime64", "nanoseconds", "zoned", "bytes", "bool"],
)
def test_ids_of_every_storable_type_come_back(bundle, tmp_path, ids):
    write_bundle(replace(bundle, users=ids, items=ids, titles=None), tmp_path / "model")
    found = read_bundle(tmp_path / "model")
    for side in (found.users, found.items):
        assert side.kind == ids.kind
        assert list(side) == list(ids)
        assert side.codes(list(ids)).tolist() == list(range(len(ids)))


def test_ids_come_back_from_a_folder_named_like_a_partition(bundle, tmp_path):
    path = tmp_path / "user_id=5" / "title=x" / "item_id=7"
    write_bundle(replace(bundle, titles=None), path)
    assert_same(read_bundle(path), replace(bundle, titles=None))


@pytest.mark.parametrize("ids", [IdMap([(1, "a"), (2, "b")]), IdMap([1j])], ids=["tuple", "complex"])
def test_ids_that_no_file_can_hold_are_refused(bundle, tmp_path, ids):
    kind = type(next(iter(ids))).__name__
    with pytest.raises(BundleError, match=f"ids of type {kind} cannot be stored in a file; use integers, strings or"):
        write_bundle(replace(bundle, items=ids, titles=None), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in FILES if name != "config.json"])
def test_a_damaged_file_is_refused_by_name(bundle, tmp_path, name):
    folder = tmp_path / "model"
    write_bundle(bundle, folder)
    file = folder / name
    whole = file.read_bytes()
    middle = len(whole) // 2
    for damaged in (
        whole[:-1],
        whole[:middle],
        b"",
        whole + b"\0",
        whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
    ):
        file.write_bytes(damaged)
        with pytest.raises(BundleError, match=f"{name} does not match its recorded checksum"):
            read_bundle(folder)
    file.unlink()
    with pytest.raises(BundleError, match=f"is incomplete: {name} is missing"):
        read_bundle(folder)
    file.write_bytes(whole)
    assert_same(read_bundle(folder), bundle)


def test_what_is_no_bundle_is_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match="holds no saved model: there is no config"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="holds no saved model"):
        read_bundle(tmp_path)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(file)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json cannot be read"),
        ("\xff", "config.json cannot be read"),
        ("[]", "must hold a JSON object, got list"),
        ("{}", "is not a saved model of this package"),
        ('{"model_type": "bert", "schema": 1}', "is not a saved model of this package"),
        (
            '{"schema": 1, "model": "EASE", "params": {}, "state": {}, "about": {}, "files": {}}',
            "it lists no weights or no metrics",
        ),
    ],
)
def test_a_config_of_something_else_is_refused(tmp_path, config, message):
    (tmp_path / "config.json").write_bytes(config.encode("latin-1"))
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path)


def edited(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps({**config, "checksum": artifacts._checksum(config)}))


@pytest.mark.parametrize("key", ["schema", "model", "params", "state", "about", "files"])
def test_every_key_of_the_config_is_needed(bundle, tmp_path, key):
    write_bundle(bundle, tmp_path / "model")
    edited(tmp_path / "model", **{key: None})
    with pytest.raises(BundleError, match="lacks the expected keys"):
        read_bundle(tmp_path / "model")


def test_a_newer_schema_is_refused_whatever_else_it_holds(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    message = f"has schema {SCHEMA + 1}, this version reads up to {SCHEMA}; upgrade recsys"
    edited(tmp_path / "model", schema=SCHEMA + 1)
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path / "model")
    edited(tmp_path / "model", files=None, model=None)
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    "change",
    [
        lambda config: config["params"].update(l2=0.2),
        lambda config: config["state"].update(mean=0.0),
        lambda config: config.update(model="Popularity"),
        lambda config: config.update(extra=1),
        lambda config: config.pop("checksum"),
    ],
    ids=["params", "state", "model", "extra", "no checksum"],
)
def test_a_changed_config_is_refused(bundle, tmp_path, change):
    write_bundle(bundle, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config))
    with pytest.raises(BundleError, match=r"config.json does not match its recorded checksum: it was changed"):
        read_bundle(tmp_path / "model")


def test_a_truncated_config_is_refused(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    whole = file.read_bytes()
    for length in (len(whole) - 1, len(whole) // 2, 0):
        file.write_bytes(whole[:length])
        with pytest.raises(BundleError, match=r"config.json cannot be read"):
            read_bundle(tmp_path / "model")


def test_a_bundle_of_the_first_schema_is_read(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    file = tmp_path / "model" / "config.json"
    config = {**json.loads(file.read_text()), "schema": 1}
    del config["checksum"]
    file.write_text(json.dumps(config))
    assert_same(read_bundle(tmp_path / "model"), bundle)


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def sprung(folder):
    return (folder / "executed").exists()


def test_the_trap_works(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "executed")))
    assert sprung(tmp_path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("checksum", ["as it was", "made to fit"])
def test_a_pickle_in_the_place_of_a_file_is_refused_and_never_executed(bundle, tmp_path, name, checksum):
    folder = tmp_path / "model"
    write_bundle(bundle, folder)
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    if checksum == "made to fit" and name != "config.json":
        files = json.loads((folder / "config.json").read_text())["files"]
        edited(folder, files={**files, name: artifacts.sha256_of_file(folder / name)})
    with pytest.raises(BundleError, match=r"cannot be read|does not match its recorded checksum"):
        read_bundle(folder)
    assert not sprung(tmp_path)


@pytest.mark.parametrize("name", ["model.pkl", "weights.pt", "notes.txt"])
def test_a_file_put_beside_is_refused_by_name(bundle, tmp_path, name):
    folder = tmp_path / "model"
    write_bundle(bundle, folder)
    (folder / ".DS_Store").write_bytes(b"x")
    assert_same(read_bundle(folder), bundle)
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "executed")))
    with pytest.raises(BundleError, match=f"holds {name}, which its config.json does not list"):
        read_bundle(folder)
    assert not sprung(tmp_path)


def test_a_listed_file_is_looked_for_inside_the_folder_only(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    (tmp_path / "outside").write_text("x")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    edited(tmp_path / "model", files={**config["files"], "../outside": artifacts.sha256_of_file(tmp_path / "outside")})
    with pytest.raises(BundleError, match=r"lists '\.\./outside', which is not the name of a file beside it"):
        read_bundle(tmp_path / "model")


# Writing over what is there


def test_an_older_bundle_is_replaced_whole(bundle, tmp_path):
    write_bundle(bundle, tmp_path / "model")
    newer = Bundle("Popularity", {}, {}, {"counts": np.ones(3)})
    write_bundle(newer, tmp_path / "model")
    assert_same(read_bundle(tmp_path / "model"), newer)
    assert "items.parquet" not in contents(tmp_path / "model")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    "foreign",
    [
        {"notes.txt": "mine"},
        {"config.json": '{"model_type": "bert"}', "model.safetensors": "weights"},
        {"config.json": "{"},
    ],
    ids=["notes", "other library", "broken"],
)
def test_a_foreign_folder_is_refused_and_left_alone(bundle, tmp_path, foreign):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name, text in foreign.items():
        (folder / name).write_text(text)
    before = contents(tmp_path)
    with pytest.raises(BundleError, match=r"refused to replace .*; choose another path or remove it"):
        write_bundle(bundle, folder)
    assert contents(tmp_path) == before
    assert folder.is_dir()


def test_a_file_in_the_way_is_refused_and_left_alone(bundle, tmp_path):
    (tmp_path / "model").write_text("mine")
    with pytest.raises(BundleError, match="refused to replace"):
        write_bundle(bundle, tmp_path / "model")
    assert contents(tmp_path) == {"model": b"mine"}


def fail(*_args, **_options):
    raise OSError("disk full")


@pytest.mark.parametrize("step", ["save_file", "_write_ids", "sha256_of_file", "replace_folder"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_while_writing_changes_nothing(bundle, tmp_path, monkeypatch, step, exists):
    if exists:
        write_bundle(bundle, tmp_path / "model")
    before = contents(tmp_path)
    monkeypatch.setattr(files if step == "replace_folder" else artifacts, step, fail)
    with pytest.raises(OSError, match="disk full"):
        write_bundle(replace(bundle, model="Other"), tmp_path / "model")
    assert contents(tmp_path) == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"] * exists


@pytest.mark.parametrize("part", ["params", "state", "about", "metrics"])
def test_a_value_that_is_no_json_changes_nothing(bundle, tmp_path, part):
    write_bundle(bundle, tmp_path / "model")
    before = contents(tmp_path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write_bundle(replace(bundle, **{part: {"x": object()}}), tmp_path / "model")
    assert contents(tmp_path) == before


def test_a_folder_that_cannot_be_put_in_place_leaves_the_old_one_there(tmp_path, monkeypatch):
    new, target = tmp_path / "new", tmp_path / "target"
    for folder in (new, target):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    rename = Path.rename

    def refuse_new(self, other):
        return fail() if self == new else rename(self, other)

    monkeypatch.setattr(Path, "rename", refuse_new)
    before = contents(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        replace_folder(new, target)
    assert contents(tmp_path) == before


def test_replace_folder_puts_the_new_one_in_place(tmp_path):
    new, target = tmp_path / "new", tmp_path / "target"
    for text in ("first", "second"):
        new.mkdir()
        (new / text).write_text(text)
        replace_folder(new, target)
        assert contents(tmp_path) == {f"target/{text}": text.encode()}

"""Rules as they are declared and bound: JSON and TOML round trips, files, and what is refused."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

from recsys.config import check_config, load_config
from recsys.errors import ConfigError, DataError, DataWarning
from recsys.ids import IdMap
from recsys.rules import Rules, bind, check_table
from tests.rules.test_ruled import rules_of_any_kind
from tests.rules.worlds import DATA, ITEMS, TABLE

WHOLE = """
allow = 'stock > 0 and not (brand = "a")'
exclude = [7, 3, 3]
exclude_pairs = [[2, 9], [1, 8]]
at_most = {brand = 2, genres = 1}
diversity = 0.25
pool = 50
items = "items.csv"
separators = {genres = "|"}
"""


@settings(deadline=None, max_examples=100)
@given(rules_of_any_kind())
def test_rules_survive_json_and_equal_rules_are_equal_text(rules):
    again = Rules.from_json(rules.as_json())
    assert again == rules
    assert again.as_json() == rules.as_json()
    assert json.loads(rules.as_json()) == rules.as_dict()


def test_the_order_and_kind_of_ids_do_not_matter():
    same = [[3, 1, 2, 2], (1, 2, 3), {1, 2, 3}, np.array([3, 2, 1]), pd.Series([1, 3, 2]), pd.Index([2, 1, 3])]
    assert {Rules(allow=ids).as_json() for ids in same} == {'{"allow": [1, 2, 3]}'}
    pairs = pd.DataFrame({"user_id": [2, 1], "item_id": ["b", "a"], "more": 0})
    assert Rules(exclude_pairs=pairs) == Rules(exclude_pairs=[(1, "a"), (2, "b"), (1, "a")])
    assert Rules(allow=[1, "1"]).allow == (1, "1")  # an id of each type


def test_a_file_holds_rules_alone_or_in_their_section(tmp_path):
    (tmp_path / "alone.toml").write_text(WHOLE)
    (tmp_path / "section.toml").write_text(f'[model]\nname = "EASE"\n[rules]\n{WHOLE}')
    alone, section = (Rules.read(tmp_path / f"{name}.toml") for name in ("alone", "section"))
    assert alone == section == load_config(tmp_path / "section.toml").rules
    assert alone.exclude == (3, 7)
    assert alone.columns == ("brand", "genres", "stock")
    assert list(alone.steps()) == ["allow", "exclude", "exclude_pairs", "at_most", "diversity"]
    assert alone.steps()["diversity"] == alone
    stored = check_config(load_config(tmp_path / "section.toml").as_dict())
    assert stored.rules == alone
    assert "rules" not in load_config(tmp_path / "section.toml", ["rules={}"]).rules.as_dict()
    assert not Rules()
    assert not Rules(pool=5, items="x.csv")


def test_a_manifest_lists_few_ids_and_digests_many():
    many = Rules(allow=list(range(2000)), exclude=[5]).shown()
    assert many["exclude"] == [5]
    assert many["allow"]["number"] == 2000
    assert len(many["allow"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alow": [1]}, "unknown key 'rules.alow'; did you mean 'allow'"),
        ({"allow": "stock >"}, "rules.allow: the predicate 'stock >' cannot be read: expected a number"),
        ({"exclude": "stock"}, "rules.exclude: the predicate 'stock' cannot be read"),
        ({"allow": []}, "rules.allow is an empty list, which allows nothing"),
        ({"allow": [1.5]}, "rules.allow must be text or"),
        ({"allow": [True]}, "rules.allow must be"),
        ({"allow": [[1]]}, "rules.allow must be"),
        ({"allow": [{"a": 1}]}, "rules.allow must be"),
        ({"allow": 5}, "rules.allow must be"),
        ({"allow": {"path": "x"}}, r"rules.allow takes a file as \{file = \"…\"\}, got the keys \['path'\]"),
        ({"exclude_pairs": [1]}, "rules.exclude_pairs must be"),
        ({"exclude_pairs": [[1, 2, 3]]}, "rules.exclude_pairs must be"),
        ({"at_most": {"brand": 0}}, "rules.at_most must be a table with each value a whole number ≥ 1"),
        ({"at_most": {"brand": 1.5}}, "rules.at_most must be"),
        ({"diversity": 1.1}, "rules.diversity must be a finite number ≥ 0 and ≤ 1, got 1.1"),
        ({"calibration": {"a": 0.5, "b": 0.5}}, r"rules.calibration takes one column, got \['a', 'b'\]"),
        ({"calibration": {"a": 0.5}, "diversity": 0.5}, "choose the same places of a list; leave one out"),
        ({"pool": 0}, "rules.pool must be a whole number ≥ 1, got 0"),
        ({"separators": {"genres": ""}}, "rules.separators.genres is empty"),
    ],
)
def test_what_is_no_rule_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        Rules.of(given)
    if "alow" not in given:
        with pytest.raises(ConfigError, match="rules"):
            check_config({"rules": given})


def test_what_is_no_file_of_rules_is_refused(tmp_path):
    (tmp_path / "broken.toml").write_text("allow = ")
    (tmp_path / "nothing.toml").write_text("pool = 5\n")
    (tmp_path / "training.toml").write_text('[model]\nname = "EASE"\n')
    refused = {
        "broken": "cannot be read as TOML",
        "nothing": "holds no rules; it needs a key such as allow",
        "training": "unknown key 'rules.model'",
        "absent": "there is no file of rules",
    }
    for name, said in refused.items():
        with pytest.raises(ConfigError, match=said):
            Rules.read(tmp_path / f"{name}.toml")
    for text, said in {"[1]": "rules are a table", "{": "written as JSON, such as", "[" * 100_000: "as JSON"}.items():
        with pytest.raises(ConfigError, match=said):
            Rules.from_json(text)


def allowed(rules, table=TABLE, items=DATA.items):
    return np.flatnonzero(bind(rules, table, items).allowed).tolist()


def test_ids_come_from_files_of_every_kind(tmp_path):
    pd.DataFrame({"item_id": [4, 2], "more": "x"}).to_csv(tmp_path / "ids.csv", index=False)
    pd.DataFrame({"item_id": [4, 2]}).to_parquet(tmp_path / "ids.parquet")
    (tmp_path / "one.csv").write_text("item_id\n4\n2\n")
    (tmp_path / "ids.txt").write_text("4\r\n\n 2\n")
    for name in ("ids.csv", "one.csv", "ids.parquet", "ids.txt"):
        assert allowed(Rules(allow={"file": str(tmp_path / name)})) == [2, 4]
    pd.DataFrame({"user_id": [3, 3], "item_id": [4, 2]}).to_csv(tmp_path / "pairs.csv", index=False)
    bound = bind(Rules(exclude_pairs={"file": str(tmp_path / "pairs.csv")}), None, DATA.items)
    assert bound == bind(Rules(exclude_pairs=[(3, 2), (3, 4)]), None, DATA.items)
    assert bound.hide([9, 3, 3], None).toarray().sum(axis=1).tolist() == [0, 2, 2]
    (tmp_path / "other.csv").write_text("item,more\n4,1\n")
    with pytest.raises(DataError, match=r"other\.csv has no column item_id; it has item, more"):
        allowed(Rules(allow={"file": str(tmp_path / "other.csv")}))
    with pytest.raises(DataError, match=r"the list of items .* cannot be read"):
        allowed(Rules(allow={"file": str(tmp_path / "absent.txt")}))


def test_a_table_is_a_frame_or_a_file_of_any_order(tmp_path):
    flat = TABLE.assign(genres=["|".join(genres) for genres in TABLE["genres"]])
    flat.to_csv(tmp_path / "items.csv", index=False)
    TABLE.to_parquet(tmp_path / "items.parquet")
    text = "genres contains 'war' and price < 50"
    wanted = allowed(Rules(allow=text))
    assert 0 < len(wanted) < ITEMS
    cut = Rules(allow=text, separators={"genres": "|"})
    assert allowed(cut, tmp_path / "items.csv") == allowed(Rules(allow=text), tmp_path / "items.parquet") == wanted
    assert allowed(Rules(allow=text), TABLE.set_index("item_id")) == wanted
    assert allowed(Rules(allow=text, items=str(tmp_path / "items.parquet")), None) == wanted
    assert allowed(Rules(allow=text), TABLE.sample(frac=1.0, random_state=1)) == wanted


def test_text_and_integers_that_mean_the_same_meet():
    texts = IdMap([str(item) for item in range(ITEMS)])
    assert allowed(Rules(allow=(3, "5", "007")), None, texts) == [3, 5]


def test_wrong_tables_and_ids_are_refused_or_said():
    with pytest.raises(DataError, match="the rules read the column 'brnd', which the items do not have; did you mean"):
        bind(Rules(at_most={"brnd": 2}), TABLE, DATA.items)
    with pytest.raises(DataError, match="'colour', which the items do not have; known: brand, genres, price, stock"):
        check_table(Rules(allow="colour = 'red'"), TABLE)
    with pytest.raises(DataError, match="column 'price' holds numbers"):
        check_table(Rules(allow="price = 'red'"), TABLE)
    with pytest.raises(DataError, match="the table of items: no item of the table of items is in the interactions"):
        bind(Rules(at_most={"brand": 2}), TABLE.assign(item_id=TABLE["item_id"] + 1000), DATA.items)
    with pytest.raises(DataError, match=r"the table of items: .*more than once"):
        bind(Rules(at_most={"brand": 2}), pd.concat([TABLE, TABLE]), DATA.items)
    with pytest.raises(DataError, match=r"rules.allow allows none of the 60 items of the model: \['x', 'y'\]"):
        bind(Rules(allow=["x", "y"]), None, DATA.items)
    with pytest.raises(DataError, match=r"rules.allow allows none of the 60 items of the model: 'price > 1000'"):
        bind(Rules(allow="price > 1000"), TABLE, DATA.items)
    with pytest.raises(DataError, match=r"rules.exclude leaves no item to recommend"):
        bind(Rules(exclude="not (price > 1000)"), TABLE, DATA.items)
    with pytest.raises(DataError, match=r"rules.exclude_pairs: none of the 1 interactions"):
        bind(Rules(exclude_pairs=[(1, "x")]), None, DATA.items)
    with pytest.warns(
        DataWarning, match=r"rules.exclude lists 2 items, of which the model knows 0: others are like 'x'"
    ):
        bind(Rules(exclude=["x", "y"]), None, DATA.items)
    with pytest.warns(DataWarning, match=r"rules.allow lists 4 items, of which the model knows 1"):
        bind(Rules(allow=[1, 700, 701, 702]), None, DATA.items)


def test_bound_rules_are_equal_where_they_give_the_same_lists():
    one = bind(Rules(allow="stock > 0"), TABLE, DATA.items)
    items = DATA.items.ids(np.flatnonzero(one.allowed))
    assert one == bind(Rules(allow=items), None, DATA.items) != bind(Rules(allow=items[1:]), None, DATA.items)
    assert bind(Rules(at_most={"brand": 2}), TABLE, DATA.items) != bind(Rules(at_most={"brand": 3}), TABLE, DATA.items)
    moved = TABLE.assign(brand=TABLE["brand"].to_numpy()[::-1])
    assert bind(Rules(at_most={"brand": 2}), TABLE, DATA.items) != bind(Rules(at_most={"brand": 2}), moved, DATA.items)
    for weights in ({"diversity": 0.5}, {"calibration": {"genres": 0.5}}):
        assert bind(Rules(**weights), TABLE, DATA.items) != bind(Rules(**weights, pool=7), TABLE, DATA.items)
    again = pickle.loads(pickle.dumps(one))  # as Spark sends it to its workers
    assert again == one
    assert hash(again) == hash(one)

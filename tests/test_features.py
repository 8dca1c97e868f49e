"""Features of items: what each kind of column becomes, missing and unseen values, and the stored recipe."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigError, DataError
from recsys.features import Encoding, Features, Recipe, recognized
from recsys.ids import IdMap
from recsys.interactions import Interactions

TABLE = pd.DataFrame(
    {
        "item_id": ["a", "b", "c", "d"],
        "color": ["red", "blue", "red", None],
        "tags": [["x", "y"], ["x", "x"], [], None],
        "text": ["The cat and the dog", "a dog dog dog barks at one", "", None],
        "price": [1.0, 2.0, 3.0, np.nan],
        "vector": [[3.0, 4.0], [0.0, 2.0], None, [0.0, 0.0]],
    }
)


def block(column, kind, min_count=1, table=TABLE):
    encoding = Encoding.learned(column, kind, table[column], min_count)
    return encoding, encoding.encode(table[column]).toarray() * encoding.scale


def test_a_category_is_one_column_weighted_by_how_rare_it_is():
    encoding, found = block("color", "category")
    assert encoding.terms == ("blue", "red")
    expected = [[0, math.log(4 / 2)], [math.log(4), 0], [0, math.log(4 / 2)], [0, 0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    # The mean length of the rows that are not empty is 1.
    lengths = np.linalg.norm(found / encoding.scale, axis=1)
    assert lengths[lengths > 0].mean() == pytest.approx(1.0)


def test_a_tag_counts_once_however_often_it_is_given():
    encoding, found = block("tags", "tags")
    assert encoding.terms == ("x", "y")
    np.testing.assert_allclose(found, [[math.log(2), math.log(4)], [math.log(2), 0], [0, 0], [0, 0]], rtol=1e-6)


def test_words_are_counted_by_their_logarithm():
    encoding, found = block("text", "text", min_count=2)
    assert encoding.terms == ("dog",)
    expected = np.array([[1], [1 + math.log(3)], [0], [0]]) * math.log(4 / 2)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_number_is_shared_out_between_two_quantiles():
    encoding = Encoding("price", "number", knots=(0.0, 10.0, 20.0))
    rows = encoding.encode(pd.Series([0.0, 4.0, 20.0, 99.0, -5.0, np.nan])).toarray()
    np.testing.assert_allclose(rows, [[1, 0, 0], [0.6, 0.4, 0], [0, 0, 1], [0, 0, 1], [1, 0, 0], [0, 0, 0]], atol=1e-7)
    learned, found = block("price", "number")
    assert (learned.knots[0], learned.knots[-1]) == (1.0, 3.0)
    assert (found[3] == 0).all()
    assert len(Encoding.learned("one", "number", pd.Series([5.0, 5.0]), 1)) == 1
    assert len(Encoding.learned("none", "number", pd.Series([np.nan]), 1)) == 0


def test_a_vector_is_divided_by_its_length():
    _, found = block("vector", "vector")
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 1], [0, 0], [0, 0]], rtol=1e-6)
    with pytest.raises(DataError, match=r"must have one length, got \[1, 2\]"):
        block("vector", "vector", table=pd.DataFrame({"vector": [[1.0], [1.0, 2.0]]}))
    encoding, _ = block("vector", "vector")
    with pytest.raises(DataError, match="1 vectors in column 'vector' do not have 2 numbers"):
        encoding.encode(pd.Series([[1.0, 2.0, 3.0]]))
    with pytest.raises(DataError, match="NaN or infinite"):
        encoding.encode(pd.Series([[1.0, np.nan]]))


def test_what_is_unseen_or_missing_is_an_empty_row():
    features = Features.from_frame(TABLE, columns={"color": "category", "tags": "tags"}, min_count=1)
    more = features.more(pd.DataFrame({"item_id": ["e", "f"], "color": ["green", "red"], "tags": [["z"], None]}))
    assert np.diff(more.matrix.indptr).tolist() == [0, 1]
    assert more.recipe is features.recipe
    with pytest.raises(DataError, match="has no column tags, which the model reads as features"):
        features.more(pd.DataFrame({"item_id": ["e"], "color": ["red"]}))


def test_rows_follow_the_ids_that_are_asked_for():
    features = Features.from_frame(TABLE, columns={"color": "category"}, min_count=1)
    rows = features.rows(IdMap(["c", "nobody", "b"])).toarray()
    np.testing.assert_array_equal(rows, [features.matrix[2].toarray()[0], [0, 0], features.matrix[1].toarray()[0]])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([True, False], "category"),
        ([1, 2], "number"),
        ([1.5, None], "number"),
        (["red", "blue", "red"], "category"),
        (["Toy Story (1995)", "The Usual Suspects", "A Grand Day Out"], "text"),
        (["Action|Drama", "Drama", "Drama"], "tags"),
        ([["a"], ["b", "c"], None], "tags"),
        ([[0.1, 0.2], None], "vector"),
        (pd.to_datetime(["2020-01-01", "2021-01-01"]), "number"),
    ],
)
def test_kinds_are_recognized(values, kind):
    assert recognized(pd.Series(values)) == kind


def test_text_with_bars_is_a_list_of_tags():
    encoding = Encoding.learned("genres", "tags", pd.Series(["Action|Drama", "Drama"]), 1)
    assert encoding.terms == ("Action", "Drama")


def test_a_recipe_is_stored_as_json_and_read_back():
    features = Features.from_frame(TABLE, min_count=1)
    again = Recipe.from_state(json.loads(json.dumps(features.recipe.state())))
    np.testing.assert_array_equal(again.encode(TABLE).toarray(), features.matrix.toarray())
    for wrong in (None, [{"column": "a"}], [{"column": "a", "kind": "tags", "terms": ["x"], "weights": []}], 3):
        with pytest.raises(DataError, match="recipe of its features"):
            Recipe.from_state(wrong)


def test_columns_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match=r"has no column 'colour'; it has color, .* did you mean 'color'"):
        Features.from_frame(TABLE, columns={"colour": "category"})
    with pytest.raises(
        ConfigError, match="color: a column is one of category, tags, text, number, vector, got 'colour'"
    ):
        Features.from_frame(TABLE, columns={"color": "colour"})
    with pytest.raises(DataError, match="no value is that of at least 3 items"):
        Features.from_frame(TABLE, columns={"color": "category"}, min_count=3)
    with pytest.raises(DataError, match="column 'color' must hold numbers"):
        Features.from_frame(TABLE, columns={"color": "number"})


def test_interactions_give_the_features_of_their_items():
    frame = pd.DataFrame({"user_id": [1, 1, 2], "item_id": ["c", "a", "b"]})
    data = Interactions.from_frame(frame, items=TABLE.assign(title=["An apple", "Big apple", "Cut apple", "Dry apple"]))
    features = Features.of(data, min_count=1)
    expected = Features.from_frame(TABLE, min_count=1)
    assert [own.column for own in features.recipe.encodings] == [own.column for own in expected.recipe.encodings]
    assert Features.from_frame(TABLE.assign(title="An apple"), min_count=1).recipe == expected.recipe
    assert Features.of(data, {"title": "text"}, 1).recipe.encodings[0].column == "title"
    with pytest.raises(DataError, match="say nothing about their items"):
        Features.of(Interactions.from_frame(frame))

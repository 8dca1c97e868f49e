"""What rules cost: each step is what `evaluate` measures of the model under the rules so far."""

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigError, DataError
from recsys.evaluation import evaluate
from recsys.models import ALS, EASE
from recsys.rules import Ruled, Rules, bind, costs, hidden_from, in_words
from recsys.splits import hold_out_ratings
from tests.rules.worlds import DATA, TABLE

SPLIT = hold_out_ratings(DATA, test=0.3)
RULES = Rules(
    allow="stock > 0",
    exclude_pairs=[(user, item) for user in range(20) for item in range(10)],
    at_most={"brand": 1},
    calibration={"genres": 0.8},
)
STEPS = {
    "+ allow": Rules(allow="stock > 0"),
    "+ exclude_pairs": Rules(allow="stock > 0", exclude_pairs=RULES.exclude_pairs),
    "+ at_most": Rules(allow="stock > 0", exclude_pairs=RULES.exclude_pairs, at_most={"brand": 1}),
    "+ calibration": RULES,
}
MODELS = [EASE(regularization=5.0), ALS(factors=6, iterations=3, regularization=0.1)]
FITTED = [model.fit(SPLIT.train, show_progress=False) for model in MODELS]


@pytest.mark.parametrize("model", FITTED, ids=lambda model: type(model).__name__)
def test_each_step_is_what_evaluate_measures(model):
    genres = pd.get_dummies(TABLE.set_index("item_id")["genres"].explode()).groupby(level=0).max()
    vectors = genres.reindex(range(60), fill_value=False).to_numpy(dtype=float)
    frame = costs(model, SPLIT.test, RULES, TABLE, k=5, item_vectors=vectors, popularity=SPLIT.train)
    names = ["ndcg@5", "coverage@5", "novelty@5", "diversity@5"]
    assert frame.columns.tolist() == ["rules", "items", *names]
    assert frame["rules"].tolist() == ["none", *STEPS]
    for (_, row), rules in zip(frame.iterrows(), [None, *STEPS.values()], strict=True):
        bound = None if rules is None else bind(rules, TABLE, SPLIT.train.items)
        ranker = model if bound is None else Ruled(model, bound)
        part = SPLIT.test if bound is None else hidden_from(SPLIT.test, bound)
        wanted = evaluate(ranker, part, names, item_vectors=vectors, popularity=SPLIT.train)
        assert row[names].to_dict() == wanted.values
        assert row["items"] == (60 if bound is None else bound.n_allowed)
    assert frame["diversity@5"].iloc[-1] != frame["diversity@5"].iloc[0]


def test_lists_that_are_measured_hold_to_the_rules():
    bound = bind(RULES, TABLE, SPLIT.train.items)
    part = hidden_from(SPLIT.test, bound)
    ids, _ = Ruled(FITTED[0], bound).recommend(part.user_index, part.context, 5, seen=part.seen)
    for user, row in zip(part.users, ids, strict=True):
        assert bound.allowed[row[row >= 0]].all()
        assert user >= 20 or (row[row >= 0] >= 10).all()
        assert not set(row) & set(part.context[[list(part.users).index(user)]].indices)
    without = bind(Rules(allow="stock > 0"), TABLE, SPLIT.train.items)
    assert hidden_from(SPLIT.test, without) is SPLIT.test


def test_vectors_are_the_models_or_the_values_of_a_column():
    for model, rules, has in (
        (FITTED[1], Rules(allow=(1, 2, 3)), True),
        (FITTED[0], Rules(at_most={"brand": 1}), True),
        (FITTED[0], Rules(allow=(1, 2, 3)), False),
    ):
        frame = costs(model, SPLIT.test, rules, TABLE)
        assert ("diversity@10" in frame) == has
        assert np.isfinite(frame.drop(columns=["rules"]).to_numpy(dtype=float)).all()


def test_the_table_in_words_has_a_line_per_step_and_the_differences():
    text = in_words(costs(FITTED[0], SPLIT.test, Rules(allow="stock > 0"), TABLE, metrics=("ndcg", "coverage")))
    head, none, allow = text.split("\n")
    assert head.split() == ["rules", "items", "ndcg@10", "coverage@10"]
    assert none.split()[:2] == ["none", "60"]
    first, value, change = float(none.split()[2]), float(allow.split()[3]), float(allow.split()[4].strip("()"))
    assert change == pytest.approx(value - first, abs=2e-4)


def test_wrong_calls_are_refused():
    with pytest.raises(ConfigError, match="there are no rules to measure"):
        costs(FITTED[0], SPLIT.test, Rules())
    with pytest.raises(DataError, match=r"expected one part of a split, such as split\.test, got Split"):
        costs(FITTED[0], SPLIT, RULES)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        costs(FITTED[0], SPLIT.test, RULES, k=0)

"""The words at the top of a report agree with the figures below them."""

import numpy as np
import pytest

from recsys import datasets
from recsys.evaluation import evaluate, top_lists
from recsys.models import EASE
from recsys.report import page
from recsys.splits import hold_out_users


@pytest.fixture(scope="module")
def fitted():
    split = hold_out_users(datasets.synthetic(150, 60, 3000).filter(min_user=5).binarized(), n_users=0.2)
    model = EASE().fit(split.train)
    return model, split, evaluate(model, split.test, ("ndcg@10", "coverage@10"), popularity=split.train)


@pytest.mark.parametrize(("factor", "said"), [(0.5, "100% better"), (2.0, "50% worse"), (1.0, "the same as")])
def test_the_top_says_how_the_model_stands_to_the_baseline(fitted, factor, said):
    model, split, evaluation = fitted
    made = page(
        model, split, evaluation, baseline=("Popularity", {m: factor * v for m, v in evaluation.values.items()})
    )
    (line,) = [part for part in made.partition("<nav")[0].split("<p") if "that of Popularity" in part]
    assert said in line


def test_without_a_baseline_or_with_one_of_zero_nothing_is_compared(fitted):
    model, split, evaluation = fitted
    for baseline in (None, ("Popularity", dict.fromkeys(evaluation.values, 0.0))):
        assert "that of Popularity" not in page(model, split, evaluation, baseline=baseline)


def test_the_items_that_the_lists_show_are_counted(fitted):
    model, split, evaluation = fitted
    shown = len(np.unique(top_lists(model, split.test, np.arange(len(split.test.users)), 10)))
    assert f"The lists of 10 show {shown} of {split.train.shape[1]} items" in page(model, split, evaluation)

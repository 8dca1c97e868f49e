"""The words at the top of a report agree with the figures below them."""

import re
from dataclasses import replace

import numpy as np
import pytest

from recsys import datasets
from recsys.evaluation import evaluate, top_lists
from recsys.models import EASE
from recsys.report import page
from recsys.splits import hold_out_users


@pytest.fixture(scope="module")
def fitted():
    split = hold_out_users(datasets.synthetic(150, 60, 3000).filter(min_user=10).binarized(), n_users=0.2)
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


def test_what_hardly_differs_is_called_neither_better_nor_worse(fitted):
    model, split, evaluation = fitted
    near = ("Popularity", {m: 1.004 * v for m, v in evaluation.values.items()})
    said = page(model, split, evaluation, baseline=near).partition("<nav")[0]
    assert f"ndcg@10 is about that of Popularity ({1.004 * evaluation['ndcg@10']:.4f})." in said


def test_the_champion_has_a_column_and_a_sentence_of_its_own(fitted):
    model, split, evaluation = fitted
    half = {"ndcg@10": evaluation["ndcg@10"] / 2}
    made = page(model, split, evaluation, baseline=("Popularity", evaluation.values), champion=("version 3", half))
    assert "ndcg@10 is 100% better than that of version 3" in made
    heads = re.findall('<th scope="col"[^>]*>([^<]*)</th>', made)[:6]
    assert heads == ["metric", "value", "Popularity", "version 3", "95% interval of the value", "users"]
    row = made.partition('<th scope="row">coverage@10</th>')[2].partition("</tr>")[0]
    assert re.findall("<td[^>]*>([^<]*)</td>", row)[2] == "–"


def test_users_with_no_or_a_short_history_are_counted_and_measured(fitted):
    model, split, _ = fitted
    context = split.test.context.tolil()
    lengths = np.diff(split.test.context.indptr)
    for row in range(3):
        context[row] = 0
    for row in range(3, 8):
        context[row, split.test.context[row].indices[2:]] = 0
    context = context.tocsr()
    context.eliminate_zeros()
    part = replace(split.test, context=context)
    evaluation = evaluate(model, part, ("ndcg@10", "coverage@10"), popularity=split.train)
    values = evaluation.per_user["ndcg@10"].to_numpy()
    none, few, more = values[:3].mean(), values[3:8].mean(), values[8:].mean()
    assert lengths.min() >= 5
    said = page(model, replace(split, test=part), evaluation).partition("<nav")[0]
    assert f"ndcg@10 is {none:.4f} for the 3 users without any history, {few:.4f} for the 5 users with 1 to 4" in said
    assert f"items and {more:.4f} for the {len(values) - 8} users with more." in said


def test_a_test_part_without_new_users_is_said_to_be_one(fitted):
    model, split, evaluation = fitted
    shortest = np.diff(split.test.context.indptr).min()
    said = page(model, split, evaluation).partition("<nav")[0]
    assert f"All these users have a history of {shortest} items or more; how newer ones fare is not measured." in said
    lists = page(model, split, evaluation, metrics=["coverage@10"]).partition("<nav")[0]
    assert "history" not in lists


def test_the_items_that_the_lists_show_are_counted(fitted):
    model, split, evaluation = fitted
    shown = len(np.unique(top_lists(model, split.test, np.arange(len(split.test.users)), 10)))
    assert f"The lists of 10 show {shown} of {split.train.shape[1]} items" in page(model, split, evaluation)

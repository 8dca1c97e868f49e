"""Figures: what they show, and that drawing them changes nothing outside."""

import io
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from recsys.errors import ConfigError, DataError
from recsys.evaluation import Evaluation, table
from recsys.report import comparison, learning_curve, metric_at_k

HISTORY = {
    "epoch": [1, 2, 3, 4],
    "loss": [4.0, 3.0, 2.5, 2.4],
    "ndcg@10": [0.1, None, 0.3, 0.2],
    "rmse": [1.0, np.nan, 0.9, 0.8],
    "seconds": [1, 1, 1, 1],
}


def evaluation(shift=0.0):
    rows = [(f"ndcg@{k}", 0.2 + shift, 0.01, 50) for k in (50, 5, 10)]
    rows += [("coverage@10", 0.5, np.nan, 50), ("rmse", 0.9 - shift, 0.02, 50)]
    summary = pd.DataFrame(rows, columns=["metric", "value", "standard_error", "n"])
    return Evaluation(pd.DataFrame({"user_id": [1]}), summary)


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def bars(panel):
    """Half-lengths of the error bars of a panel, along the axis where they have one."""
    from matplotlib.collections import LineCollection

    lines = [line for item in panel.collections if isinstance(item, LineCollection) for line in item.get_segments()]
    return [float(np.abs(line[1] - line[0]).max() / 2) for line in lines]


def test_a_learning_curve_has_a_panel_per_curve_and_marks_the_best_epoch():
    figure = learning_curve(HISTORY)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["training loss", "validation ndcg@10", "validation rmse"]
    assert [panel.get_ylabel() for panel in figure.axes] == ["loss", "mean over users", "units of the rating"]
    assert figure.axes[-1].get_xlabel() == "epoch"
    assert [panel.get_title(loc="right") for panel in figure.axes] == ["", "best epoch 3: 0.3000", ""]
    assert all(panel.lines[1].get_xdata()[0] == 3 for panel in figure.axes)
    assert figure.axes[1].lines[0].get_xdata().tolist() == [1, 3, 4]  # an epoch without validation has no point
    assert png(figure).startswith(b"\x89PNG")


def test_the_best_epoch_goes_by_the_metric_named():
    figure = learning_curve(pd.DataFrame(HISTORY), metric="rmse")
    assert figure.axes[2].get_title(loc="right") == "best epoch 4: 0.8000"
    with pytest.raises(ConfigError, match="does not hold 'ndcg@100'; did you mean 'ndcg@10'"):
        learning_curve(HISTORY, metric="ndcg@100")


def test_a_learning_curve_without_validation():
    figure = learning_curve({"epoch": [1], "loss": [2.0], "recall@5": [None]})
    assert len(figure.axes) == 2
    assert [len(panel.lines) for panel in figure.axes] == [1, 1]
    assert len(learning_curve({"epoch": [1], "loss": [2.0]}).axes) == 1
    with pytest.raises(DataError, match="epoch and loss, got epoch"):
        learning_curve({"epoch": [1]})
    with pytest.raises(DataError, match="no epoch"):
        learning_curve({"epoch": [], "loss": []})


def test_metric_at_k_has_a_panel_per_kind_in_order_of_k():
    figure = metric_at_k(evaluation())
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["ndcg@k", "coverage@k"]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [5, 10, 50]
    assert bars(figure.axes[0]) == pytest.approx([1.96 * 0.01] * 3)
    assert bars(figure.axes[1]) == []
    assert {panel.get_ylabel() for panel in figure.axes} == {"mean over users", "share of the catalog"}
    assert {panel.get_xlabel() for panel in figure.axes} == {"k (length of the list)"}
    assert png(figure).startswith(b"\x89PNG")
    only_rmse = evaluation().summary.tail(1)
    with pytest.raises(DataError, match="no metric with a cut-off"):
        metric_at_k(Evaluation(pd.DataFrame(), only_rmse))


@pytest.mark.parametrize(
    ("metric", "order", "direction"),
    [("ndcg@10", ["good", "bad"], "higher"), ("rmse", ["good", "bad"], "lower")],
)
def test_a_comparison_shows_the_best_on_top(metric, order, direction):
    evaluations = {"bad": evaluation(), "good": evaluation(0.1)}
    for given in (evaluations, table(evaluations, sort_by="coverage@10")):
        panel = comparison(given, metric).axes[0]
        assert [label.get_text() for label in panel.get_yticklabels()] == order
        assert panel.yaxis_inverted()
        assert not any(label.get_parse_math() for label in panel.get_yticklabels()), "a name may hold dollars"
        assert panel.get_title(loc="left") == f"{metric} ({direction} is better)"
        assert [bar.get_width() for bar in panel.patches] == [evaluations[name][metric] for name in order]
        error = evaluations["bad"].summary.set_index("metric")["standard_error"][metric]
        assert bars(panel) == pytest.approx([1.96 * error] * 2)
    assert "s.e." in panel.get_xlabel()
    assert png(panel.figure).startswith(b"\x89PNG")


def test_a_comparison_without_standard_errors_or_without_the_metric():
    evaluations = {"bad": evaluation(), "good": evaluation(0.1)}
    assert comparison(evaluations, "coverage@10").axes[0].get_xlabel() == "share of the catalog"
    for given in (evaluations, table(evaluations)):
        with pytest.raises(ConfigError, match="no model was evaluated on 'ndcg@100'"):
            comparison(given, "ndcg@100")


def test_matplotlib_is_imported_by_the_first_figure_and_pyplot_never():
    code = (
        "import sys, recsys.report as report; assert 'matplotlib' not in sys.modules;"
        "report.learning_curve({'epoch': [1], 'loss': [1.0]}); assert 'matplotlib.figure' in sys.modules;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""Reports of an evaluated run: figures for a notebook, and one self-contained HTML page."""

from recsys.report.page import page
from recsys.report.plots import comparison, learning_curve, metric_at_k

__all__ = ["comparison", "learning_curve", "metric_at_k", "page"]

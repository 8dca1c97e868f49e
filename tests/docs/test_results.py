"""The tables of measured figures, and the file that they are made of."""

import json

import pytest

from docs import record
from docs.generate import results
from docs.generate.models import ROOT
from recsys.config import load_config

FIGURES = results.read()["figures"]


@pytest.mark.parametrize("page", ["docs/results.md", "docs/models.md", "README.md"])
def test_the_tables_are_up_to_date(page):
    made = results.pages({})[ROOT / page]
    assert (ROOT / page).read_text(encoding="utf-8") == made, f"{page} is older than docs/results.json: make docs"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: "-".join([figure["config"], *figure.get("set", [])]))
def test_a_figure_is_of_a_shipped_configuration_and_has_the_metrics_of_its_table(figure):
    job = load_config(ROOT / results.CONFIGS / f"{figure['config']}.toml", figure.get("set", []))
    assert figure["table"] in results.TABLES
    deciding = results.columns(figure["table"])[0][0]
    assert len(figure["values"][deciding]) == job.train.repeats
    assert set(figure["values"]) <= {*job.evaluate.metrics, "mae"}
    shares = [values for name, values in figure["values"].items() if not name.startswith("novelty")]
    assert all(0 < value < 2 for values in shares for value in values)


def test_no_configuration_has_two_figures():
    keys = [(figure["config"], *figure.get("set", [])) for figure in FIGURES]
    assert len(set(keys)) == len(keys)


def test_what_is_recorded_is_what_the_training_measured(tmp_path, monkeypatch, capsys):
    config = tmp_path / "toy.toml"
    config.write_text("""
[data]
name = "synthetic"
users = 60
items = 30
interactions = 700

[model]
name = "EASE"

[evaluate]
metrics = ["ndcg@10", "coverage@10"]
""")
    monkeypatch.setattr(results, "FILE", tmp_path / "results.json")
    (tmp_path / "results.json").write_text(json.dumps({"figures": [], "compared": {"a": "| x |"}}))
    results.read.cache_clear()
    try:
        with pytest.raises(SystemExit):
            record.main([str(config)])
        record.main([str(config), "--table", "lists-ml1m-linear", "--model", "EASE"])
        printed = capsys.readouterr().out
        record.main([str(config)])  # in place of the first, under its label
        (figure,) = results.read()["figures"]
        assert (figure["config"], figure["model"], figure["table"]) == ("toy", "EASE", "lists-ml1m-linear")
        value, error = figure["values"]["ndcg@10"][0], figure["errors"]["ndcg@10"]
        assert f"{value:.4f} {error:.4f}" in " ".join(printed.split())
        assert results.read()["compared"] == {"a": "| x |"}
    finally:
        results.read.cache_clear()

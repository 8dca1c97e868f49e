"""What a model says of its origin may be anything; whoever reads it takes nothing for granted."""

from __future__ import annotations

import pytest

from recsys import datasets, drift, evaluate, report
from recsys.cli import main
from recsys.errors import ConfigError
from recsys.jobs.common import config_of, may_have_seen
from recsys.models import Popularity
from recsys.splits import hold_out_ratings

ODD = [3, "x", [], {"data": 3}, {"data": {"users": "many"}, "until": "never", "fingerprint": 4}, None]


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_origin_of_any_kind_is_no_crash(odd, tmp_path, capsys):
    data = datasets.synthetic(40, 20, 400)
    split = hold_out_ratings(data)
    model = Popularity().fit(split.train, show_progress=False)
    evaluation = evaluate(model, split.test, ["ndcg@10"], show_progress=False)
    data.to_frame().to_csv(tmp_path / "ratings.csv", index=False)
    model.save(tmp_path / "model", about={"config": odd, "trained_on": odd, "data": odd, "run_id": odd})
    model = Popularity.load(tmp_path / "model")
    assert may_have_seen(model, split)
    assert drift.data_drift(model, data)["new_items"] == 0
    assert "Popularity" in report.page(model, split, evaluation)
    if not isinstance(odd, dict):
        with pytest.raises(ConfigError, match="does not say how it was trained"):
            config_of(model, "it")
    words = ["recommend", str(tmp_path / "model"), "--user", "1", "--data", str(tmp_path / "ratings.csv")]
    assert main(words) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err

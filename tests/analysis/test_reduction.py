"""Codes of models beside PCA, SVD and Isomap: figures by other ways, what is refused, and what a page says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from recsys import datasets
from recsys.analysis import Subject, read_out, reduction
from recsys.analysis.plain_codes import unit_rows
from recsys.analysis.reduction_findings import curves, findings, table_of, verdict
from recsys.errors import ConfigError, DataError, UnsupportedError
from recsys.models import EASE, UAE, MultVAE, UAutoRec
from recsys.splits import hold_out_users


@pytest.fixture(scope="module", autouse=True)
def short_read_outs():
    """Two epochs of each softmax: how well it learns is tested beside it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_out, "_EPOCHS", 2)
        yield


PLAIN = ["PCA", "truncated SVD", "Isomap"]


@pytest.fixture(scope="module")
def split():
    data = datasets.synthetic(220, 40, 4000).filter(min_rating=3.0, min_user=5).binarized()
    return hold_out_users(data, n_users=0.25)


@pytest.fixture(scope="module")
def models(split):
    made = [MultVAE(hidden=10, latent=3, epochs=2), UAE(hidden=(8,), latent=5, epochs=2, likelihood="bernoulli")]
    return [model.fit(split.train, show_progress=False) for model in made]


@pytest.fixture(scope="module")
def frame(split, models):
    part = split.test
    return reduction(models, split.train, part.context, target=part.target, dimensions=[3, 2], neighbors=4)


def test_the_frame_has_a_row_per_method_and_dimension(split, frame):
    expected = [("mean row", 0), *((name, d) for name in PLAIN for d in (2, 3)), ("MultVAE", 3), ("UAE", 5)]
    assert list(frame[["method", "dimension"]].itertuples(index=False, name=None)) == expected
    codes = frame[frame["dimension"] > 0]
    assert codes[["unexplained", "nll", "target_nll"]].notna().all(axis=None)
    assert codes[["trustworthiness", "continuity"]].to_numpy().max() <= 1
    assert frame.loc[0, "unexplained"] == 1
    own = frame[["own_unexplained", "own_nll", "own_target_nll"]].notna()
    assert own.sum(axis=1).tolist() == [0] * 7 + [3, 1], "of a Bernoulli likelihood there is no softmax"
    assert (
        frame["users"].unique().tolist() == [np.count_nonzero(frame_users(frame))] or len(frame["users"].unique()) == 1
    )


def frame_users(frame):
    return frame["users"].to_numpy()


def test_own_figures_are_those_of_the_decoder(split, models, frame):
    part = split.test
    has = np.diff(part.context.indptr) > 0
    rows, target = part.context[has], part.target[has]
    unit, mean = unit_rows(rows).toarray(), unit_rows(split.train.matrix).toarray().mean(0)
    lengths = np.sqrt(np.diff(rows.indptr))[:, None]
    total = np.square(unit - mean).sum()

    logs = torch.from_numpy(models[0].decode(models[0].encode(rows))).double().log_softmax(1).numpy()
    own = frame.set_index("method").loc["MultVAE"]
    assert own["own_nll"] == pytest.approx(-(rows.toarray() * logs).sum() / rows.sum(), rel=1e-5)
    assert own["own_target_nll"] == pytest.approx(-(target.toarray() * logs).sum() / target.sum(), rel=1e-5)
    error = np.square(unit - np.exp(logs) * lengths**2 / lengths).sum()
    assert own["own_unexplained"] == pytest.approx(error / total, rel=1e-5)

    chances = 1 / (1 + np.exp(-models[1].decode(models[1].encode(rows)).astype(np.float64)))
    own = frame.set_index("method").loc["UAE"]
    assert own["own_unexplained"] == pytest.approx(np.square(unit - chances / lengths).sum() / total, rel=1e-5)


def test_equal_seeds_give_equal_frames_and_ratings_have_no_decoder_of_rows(split, models, frame):
    part = split.test
    again = reduction(models[0], split.train, part.context, target=part.target, dimensions=[2, 3], neighbors=4)
    pd.testing.assert_frame_equal(again, frame[frame["method"] != "UAE"])
    rated = datasets.synthetic(60, 20, 500)
    model = UAutoRec(hidden=3, epochs=1).fit(rated, show_progress=False)
    few = reduction(model, rated, rated, dimensions=[2], neighbors=3)
    assert few.iloc[-1][["own_unexplained", "own_nll", "target_nll"]].isna().all()
    assert few["nll"].notna().all()
    negative = replace(rated, matrix=rated.matrix * -1)
    assert reduction([], negative, negative, dimensions=[2], neighbors=3)["nll"].isna().all()


def test_a_code_of_noise_loses_to_pca(split, models, frame):
    class Noise(MultVAE):
        def _encode(self, histories):
            rng = np.random.default_rng(histories.shape[0])
            return torch.from_numpy(rng.normal(size=(histories.shape[0], 2)).astype(np.float32))

    noise = Noise(hidden=10, latent=2, epochs=1).fit(split.train, show_progress=False)
    found = reduction(noise, split.train, split.test.context, dimensions=[2], neighbors=4).set_index("method")
    assert found.loc["Noise", "unexplained"] > 0.98
    assert found.loc["Noise", "unexplained"] > found.loc["PCA", "unexplained"]
    assert found.loc["Noise", "trustworthiness"] == pytest.approx(0.5, abs=0.1)
    text = verdict(found.reset_index())
    assert text.startswith("Noise's code of 2 numbers, against the best plain method of as many, is not better by")


def test_what_cannot_be_compared_is_refused(split, models):
    with pytest.raises(
        UnsupportedError, match="EASE has no embeddings of users; use a model that has, such as MultVAE"
    ):
        reduction(EASE().fit(split.train), split.train, split.test.context)
    with pytest.raises(DataError, match="same items, got \\[39, 40\\]"):
        reduction(models, split.train.matrix, split.test.context[:, :39])
    with pytest.raises(DataError, match="22 held-out ones"):
        reduction(models, split.train, split.test.context[:10])
    with pytest.raises(DataError, match="target must have the shape"):
        reduction(models, split.train, split.test.context, target=split.test.target[:3])
    with pytest.raises(ConfigError, match="dimensions"):
        reduction(models, split.train, split.test.context, dimensions=[0])


def made_up(**changes):
    figures = {"unexplained": 0.8, "nll": 6.0, "target_nll": 6.5, "trustworthiness": 0.9, "continuity": 0.8}
    rows = [{"method": "mean row", "dimension": 0, "unexplained": 1.0}, {"method": "PCA", "dimension": 4, **figures}]
    return pd.DataFrame([*rows, {"method": "VAE", "dimension": 4, **figures, **changes}])


def test_the_verdict_says_what_is_lost():
    text = verdict(made_up(nll=5.5, continuity=0.7))
    assert "is better by likelihood of entries read (5.5000; PCA 6.0000); not better by squared error" in text
    assert "continuity (0.7000; PCA 0.8000)" in text
    assert "not better" not in verdict(made_up(unexplained=0.1, nll=1, target_nll=1, trustworthiness=1, continuity=1))
    lonely = made_up()
    assert "reduces nothing" in verdict(lonely[lonely["method"] != "PCA"])


def test_findings_of_a_job(split, models):
    found = findings(Subject(model=models[0], split=split))
    frame = found.tables["reduction"]
    assert sorted(frame["dimension"].unique()) == [0, 2, 3]
    assert found.metrics["pca_unexplained_3"] == frame.query("method == 'PCA' and dimension == 3")["unexplained"].item()
    assert found.metrics["trustworthiness_3"] == frame.iloc[-1]["trustworthiness"]
    assert {"intrinsic_two_nn_rows", "intrinsic_mle_codes"} <= set(found.metrics)
    assert found.summary == verdict(frame)
    text = "".join(found.content)
    assert "None of the test users was known to training" in text
    assert text.count("<figure>") == 5
    wide = MultVAE(hidden=10, latent=50, epochs=1).fit(split.train, show_progress=False)
    wide_found = findings(Subject(model=wide, split=split))
    assert "reduces nothing" in wide_found.summary
    assert wide_found.tables["reduction"]["dimension"].max() == 50
    with pytest.raises(UnsupportedError, match="EASE"):
        findings(Subject(model=EASE().fit(split.train), split=split))


def test_a_line_is_drawn_per_method_with_its_values(frame):
    drawn = curves(frame)
    assert len(drawn) == 5
    assert "PCA, numbers of the code: 2: " in drawn[0]
    assert drawn[0].count("UAE, numbers of the code: 5") == 1
    assert "own nll" in table_of(frame)

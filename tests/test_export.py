"""ONNX graphs: in another runtime the scores of the model itself, or a refusal that says why."""

import numpy as np
import onnxruntime
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from recsys import cli, export
from recsys.errors import ConfigError, NotFittedError, UnsupportedError
from recsys.models import EASE, MODELS, MultVAE
from tests.contract import CASES, fitted, ratings

REFUSED = {
    "WithFeatures",
    "WithUserFeatures",
    "IAutoRec",
    "DeepAutoRec",
    "SparseFC",
    "GLocalK",
    "ALS",
    "BPR",
    "InfiniteAE",
}
EXPORTED = [name for name in CASES if not MODELS[name].capabilities.no_graph]
COUNTS = sp.csr_matrix(ratings())
HISTORIES = sp.vstack([COUNTS[:12], sp.csr_matrix((1, COUNTS.shape[1]))]).tocsr().astype(np.float32)


def session(file):
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])


def scores_of(model, histories):
    """Every item's score, as `recommend` ranks it for users without learned vectors."""
    n_rows, n_items = histories.shape
    ids, values = model.recommend(np.full(n_rows, -1), histories, N=n_items, filter_already_liked_items=False)
    scores = np.empty_like(values)
    np.put_along_axis(scores, ids.astype(np.int64), values, axis=1)
    return scores


@pytest.fixture(scope="module")
def models():
    """Every model of the contract, of data with values other than 1 unless it reads chances alone."""
    return {name: fitted(name, COUNTS, **({"epochs": 2} if "epochs" in CASES[name] else {})) for name in CASES}


@pytest.fixture(scope="module")
def graphs(models, tmp_path_factory):
    """All graphs side by side in one file, since each export takes seconds whatever its size."""

    class Together(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = nn.ModuleList(export.ScoreGraph(models[name]) for name in EXPORTED)

        def forward(self, histories):
            return tuple(graph(histories) for graph in self.each)

    file = tmp_path_factory.mktemp("onnx") / "all.onnx"
    export._write(Together(), torch.zeros(2, COUNTS.shape[1]), file, EXPORTED)
    return session(file)


def test_what_is_refused_is_declared():
    assert set(EXPORTED) | REFUSED == set(MODELS)
    assert not set(EXPORTED) & REFUSED


@pytest.mark.parametrize("name", EXPORTED)
def test_another_runtime_gives_the_scores_of_the_model(models, graphs, name):
    dense = HISTORIES.toarray()
    wanted = scores_of(models[name], HISTORIES)
    for rows in (slice(None), slice(3, 4)):  # any number of rows
        (got,) = graphs.run([name], {export.INPUT: dense[rows]})
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted[rows], rtol=1e-4, atol=1e-4 * np.abs(wanted).max())
    spread = np.ptp(wanted[:-1], axis=1).min()
    assert (
        spread > 100 * 1e-4 * np.abs(wanted).max() or not MODELS[name].capabilities.personal
    )  # or the tolerance would hide errors


@pytest.mark.parametrize("option", [{"biases": 2.0}, {"normalize": True}, {"normalize": True, "biases": 0.0}])
@pytest.mark.parametrize(("name", "sizes"), [("UAutoRec", {"hidden": 4}), ("DeepRecommender", {"hidden": (5,)})])
def test_what_a_rating_model_does_to_its_rows_is_in_the_graph(tmp_path, name, sizes, option):
    model = MODELS[name](**sizes, epochs=2, **option).fit(COUNTS, show_progress=False)
    export.export_onnx(model, tmp_path / "model.onnx")
    one_rating = sp.csr_matrix(([2.0], ([0], [3])), shape=(1, COUNTS.shape[1]), dtype=np.float32)
    histories = sp.vstack([HISTORIES, one_rating]).tocsr()  # whose residual after biases is nothing but rounding
    (got,) = session(tmp_path / "model.onnx").run(None, {export.INPUT: histories.toarray()})
    np.testing.assert_allclose(got, scores_of(model, histories), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "sizes"), [("MultVAE", {"hidden": 5}), ("VAE", {"hidden": (6, 5)})])
def test_an_affine_decoder_leaves_the_output_layer_in_the_graph(tmp_path, name, sizes):
    model = MODELS[name](**sizes, latent=3, epochs=2, decoder="affine").fit(COUNTS, show_progress=False)
    export.export_onnx(model, tmp_path / "model.onnx")
    check_file(tmp_path / "model.onnx", model)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_no_graph_computes_is_refused_with_the_reason(models, tmp_path, name):
    with pytest.raises(UnsupportedError, match=rf"^{name} cannot be exported to ONNX: it .*; export .* in its place"):
        export.export_onnx(models[name], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def check_file(file, model):
    graph = session(file)
    assert [(x.name, x.type, x.shape) for x in graph.get_inputs()] == [("histories", "tensor(float)", ["batch", 20])]
    assert [(x.name, x.type, x.shape) for x in graph.get_outputs()] == [("scores", "tensor(float)", ["batch", 20])]
    (got,) = graph.run(None, {"histories": HISTORIES.toarray()})
    np.testing.assert_allclose(got, scores_of(model, HISTORIES), rtol=1e-4, atol=1e-5)


def test_a_file_holds_the_whole_model_and_replaces_an_older_one(models, tmp_path):
    file = tmp_path / "deep" / "model.onnx"
    file.parent.mkdir()
    file.write_text("older")
    assert export.export_onnx(models["MultVAE"], str(file)) == file
    assert [path.name for path in file.parent.iterdir()] == ["model.onnx"]
    check_file(file, models["MultVAE"])


def test_the_command_exports_a_saved_model(models, tmp_path, capsys):
    for name in ("EASE", "IAutoRec"):
        models[name].save(tmp_path / name)
    file = tmp_path / "new" / "model.onnx"
    assert cli.main(["export", str(tmp_path / "EASE"), "--onnx", str(file)]) == 0
    check_file(file, models["EASE"])
    assert "histories (batch, 20) float32 to scores (batch, 20)" in capsys.readouterr().out
    assert cli.main(["export", str(tmp_path / "IAutoRec"), "--onnx", str(tmp_path / "other.onnx")]) == 2
    assert "recsys export: IAutoRec cannot be exported to ONNX" in capsys.readouterr().err
    assert not (tmp_path / "other.onnx").exists()


def test_the_model_is_left_as_it_was(models):
    model = models["MultVAE"]
    before = {name: tensor.clone() for name, tensor in model.network_.state_dict().items()}
    export.ScoreGraph(model)(torch.zeros(1, 20))
    assert {name: tensor.tolist() for name, tensor in model.network_.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in before.items()
    }


def test_a_model_that_scores_in_a_way_of_its_own_is_refused(models):
    class Own(MultVAE):
        def _scores(self, histories, userid, items, out=None):
            return 2 * super()._scores(histories, userid, items, out)

    model = Own(**MODELS["MultVAE"].params(models["MultVAE"]))
    model.__dict__.update(models["MultVAE"].__dict__)
    with pytest.raises(UnsupportedError, match="Own cannot be exported to ONNX: it scores in a way of its own"):
        export.ScoreGraph(model)


def test_what_cannot_be_written_is_said_before_anything_is(models, tmp_path, monkeypatch):
    with pytest.raises(NotFittedError):
        export.export_onnx(EASE(), tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=r"ends in \.onnx, got 'model'"):
        export.export_onnx(models["EASE"], tmp_path / "model")
    monkeypatch.setattr(export, "LARGEST", 1000)
    with pytest.raises(UnsupportedError, match=r"this EASE has 0\.0 GB of weights and an ONNX file holds 2 GB"):
        export.export_onnx(models["EASE"], tmp_path / "model.onnx")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs onnx and onnxscript; install them in the project's folder: pip install '\.\[onnx\]'"
    ):
        export.export_onnx(models["EASE"], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []

"""Nothing that is not ours is removed or overwritten, whatever a job does, and nothing of ours stays beside it."""

import re
import tempfile
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recsys
from recsys import export, tracking
from recsys.config import check_config
from recsys.errors import RecsysError
from recsys.files import MANIFEST
from recsys.jobs import compare, evaluate, night_files, nightly, tune
from recsys.jobs.compare_folder import TABLES
from recsys.models import EASE, Popularity
from recsys.scoring import score
from recsys.tuning import Tuned
from recsys.workspace import Workspace
from tests.test_files import contents
from tests.verbs import DATA, PART

MODEL = Popularity().fit(DATA, show_progress=False)
EASED = EASE(regularization=5.0).fit(DATA, show_progress=False)
RESULT = recsys.evaluate(MODEL, PART, ["ndcg@10"])
WORLD = {
    "data": {"name": "synthetic", "users": 40, "items": 20, "interactions": 400, "binary": True},
    "split": {"kind": "hold_out_ratings"},
    "evaluate": {"metrics": ["ndcg@10"]},
    "tune": {"trials": 1, "space": {"regularization": [1.0, 2.0]}},
}
CONFIGS = {
    "EASE": check_config({**WORLD, "model": {"name": "EASE"}}),
    "Popularity": check_config({**{name: WORLD[name] for name in list(WORLD)[:3]}, "model": {"name": "Popularity"}}),
}

NAMES = ["notes", ".hidden", "thesis.txt", MANIFEST, "part-00000.parquet", "part-00007.parquet", ".part-00001.parquet"]
NAMES += [".job.json", ".parts.jsonl", "done.json", "config.json", "weights.safetensors", "metrics.json", *TABLES]
NAMES += ["model.onnx", "best.toml", ".lock", ".out.lock", "users.parquet", "trials.csv"]
FOLDERS = ["", "out", "out", "out/deep", ".out.partial", ".out.old", "out/models", "out/models/EASE"]
OURS = [
    ".out.recsys-0123abcd",
    ".out.recsys-0123abcd.old",
    "out/.EASE.recsys-0123abcd",
    "out/models/.X.recsys-0123abcd",
]
TEXTS = ["mine", "[]", "{}", '{"version": 1, "files": []}', '{"identity": {}, "files": [], "recsys": "1"}', "PAR1"]
TEXTS += ["Test part of my thesis", '{"schema": 2, "model": "bert"}', "model,"]
PLACES = st.tuples(st.sampled_from(FOLDERS), st.sampled_from(NAMES))
PLACES |= st.tuples(st.sampled_from(OURS), st.sampled_from(["notes", "thesis.txt", ".hidden"]))
TREES = st.dictionaries(PLACES, st.sampled_from(TEXTS), max_size=5)
"""Files of somebody, by folder and name, many of them named like ours."""


def scored(folder, again):
    score(MODEL, DATA, folder / "out", n=3, batch_size=9, overwrite=again)


def scored_by_night(folder, again):
    nightly.check_output(folder / "out")
    night_files.previous_lists(folder / "out")
    score(MODEL, DATA, folder / "out", n=4 if again else 3, batch_size=9)


def saved(folder, again):
    MODEL.save(folder / "out", metrics={"ndcg@10": float(again)})


def exported(folder, again):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_write", lambda graph, example, file, outputs: file.write_bytes(b"graph"))
        export.export_onnx(EASED, folder / "model.onnx")


STUBS = {"start_run": lambda *_, **__: nullcontext(MagicMock()), "describe": lambda _: "", "check": lambda _: None}


def untracked(patch, job):
    for name, stub in STUBS.items():
        patch.setattr(tracking, name, stub)


def compared(folder, again):
    trained = SimpleNamespace(model=None, test=RESULT, validation={}, run_id=None, done=lambda: None)
    figure = SimpleNamespace(savefig=lambda file, dpi: file.write_bytes(b"png"))
    tuned = Tuned(CONFIGS["EASE"], 0.1, pd.DataFrame({"trial": [0], "seconds": [1.0]}))
    with pytest.MonkeyPatch.context() as patch:
        untracked(patch, compare)
        patch.setattr(compare, "train_one", lambda *_, **__: trained)
        patch.setattr(compare, "tune", lambda *_, **__: tuned)
        patch.setattr(compare.report, "comparison", lambda *_: figure)
        compare.run(Workspace(folder, False), CONFIGS, folder / "out", trials=2 if again else 1)


def tuned(folder, again):
    with pytest.MonkeyPatch.context() as patch:
        untracked(patch, tune)
        patch.setattr(tune, "tune", lambda _, job, *__, **___: Tuned(job.with_model(regularization=1.0), 0.1, TRIALS))
        tune.run(Workspace(folder, False), CONFIGS["EASE"], output=folder / "best.toml")


TRIALS = pd.DataFrame({"trial": [0], "value": [0.1]})


def evaluated(folder, again):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "load_model", lambda *_: (MODEL, "model"))
        patch.setattr(evaluate, "measure", lambda *_: RESULT)
        patch.setattr(evaluate, "split_for", lambda _, split, **__: split)
        patch.setattr(evaluate, "_check_unseen", lambda *_: None)
        evaluate.evaluate(Workspace(folder, False), "model", CONFIGS["Popularity"], output=folder / "users.parquet")


JOBS = {
    scored: "out",
    scored_by_night: "out",
    saved: "out",
    compared: "out",
    exported: "model.onnx",
    tuned: "best.toml",
    evaluated: "users.parquet",
}


def plant(folder, tree):
    """Write the files of a tree where nothing is yet; return them by path."""
    planted = {}
    for (place, name), text in sorted(tree.items()):
        path = folder / place / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            planted[path] = text
    return planted


def check(job, tree, earlier):
    output = JOBS[job]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if earlier:
            job(folder, False)
        planted = plant(folder, tree)
        before = contents(folder)
        refusal = None
        try:
            job(folder, True)
        except RecsysError as error:
            refusal = str(error)
        if refusal is not None:
            assert "\n" not in refusal
            assert contents(folder) == before
            return False
        for path, text in planted.items():
            if path != folder / output:  # a file that is named as the output is replaced
                assert path.read_text() == text, path
        new = {name for name in contents(folder) if name not in before}
        assert not [name for name in new if re.search(r"\.recsys-|\.partial|lock$|\.job|\.parts|\.old", name)]
        assert {name for name in new if not name.startswith("out/")} <= {output}
        return True


@pytest.mark.parametrize("job", JOBS)
def test_somebodys_files_stay(job, capsys):
    done = []

    @settings(max_examples=25 if job is compared else 60, deadline=None, derandomize=True, database=None)
    @given(tree=TREES, earlier=st.booleans())
    def run(tree, earlier):
        done.append(check(job, tree, earlier))

    run()
    assert any(done)
    assert not all(done) or JOBS[job] != "out"
    capsys.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_somebodys_files_stay_in_many_more_cases(job):
    @settings(max_examples=1500, deadline=None, database=None)
    @given(tree=TREES, earlier=st.booleans())
    def run(tree, earlier):
        check(job, tree, earlier)

    run()

"""A user's own model behind MLflow: its source is logged with it, and imported from there alone."""

import os
import shutil
import subprocess
import sys
from importlib import import_module, invalidate_caches

import numpy as np
import pandas as pd
import pytest

from recsys import tracking
from recsys.errors import BundleError, TrackingUnavailable
from recsys.interactions import Interactions
from recsys.models import registry
from recsys.tracking import runs
from recsys.tracking.adapter import import_source
from recsys.tracking.logged_model import copy_source
from recsys.workspace import Workspace

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame({"user_id": RNG.integers(100, 140, 400), "item_id": RNG.integers(7, 37, 400)}).drop_duplicates()
DATA = Interactions.from_frame(FRAME)

MODULE = '''
"""A model of my own."""

from recsys.models import EASE
from recsys.models.registry import register
{imports}

@register
class {name}(EASE):
    """EASE whose scores are scaled."""

    factor: float = 3.0
    """Factor of the scores."""

    def recommend(self, *arguments, **options):
        """Return EASE's lists, with scaled scores."""
        ids, scores = super().recommend(*arguments, **options)
        return ids, {scaled}
'''

FRESH = """
import sys, mlflow, pandas as pd
request = pd.DataFrame({"user_id": ["a"], "items": [["7", "9", "12"]]})
for folder, module in zip(sys.argv[1::2], sys.argv[2::2]):
    answer = mlflow.pyfunc.load_model(folder).predict(request, params={"n": 3})
    print(sys.modules[module].__file__, answer["items"][0], [round(score, 4) for score in answer["scores"][0]], sep="|")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Imports classes from a folder of the user's: a module, and a package with a helper."""
    source = tmp_path / "source"
    package = source / "my_package"
    (package / "parts").mkdir(parents=True)
    (package / "data").mkdir()
    alone = MODULE.format(name="Alone", imports="", scaled="scores * self.factor")
    (source / "my_models.py").write_text(alone)
    (source / "train.py").write_text("raise SystemExit('not part of the model')")
    for name, text in {"__init__": "", "scale": "def scale(x, by):\n    return x * by\n", "parts/__init__": ""}.items():
        (package / f"{name}.py").write_text(text)
    within = MODULE.format(
        name="Within", imports="from my_package.scale import scale\n", scaled="scale(scores, self.factor)"
    )
    (package / "parts" / "models.py").write_text(within)
    for name in ("data/table.csv", "data/script.py", "notes.txt"):
        (package / name).write_text("")
    monkeypatch.syspath_prepend(source)
    invalidate_caches()
    classes = [import_module("my_models").Alone, import_module("my_package.parts.models").Within]
    yield classes
    forget()


def forget():
    """Make the classes unknown, as they are to another process."""
    for name in ("Alone", "Within"):
        registry._REGISTERED.pop(name, None)
    for name in [name for name in sys.modules if name.split(".")[0] in ("my_models", "my_package")]:
        del sys.modules[name]


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*.py")}


def test_a_fresh_process_serves_a_users_own_model_from_the_logged_source(own, mlflow_root, tmp_path):
    expected, arguments = [], []
    for cls in own:
        model = cls(regularization=5.0, factor=2.0).fit(DATA, show_progress=False)
        with tracking.start_run(Workspace(), "own"):
            version = tracking.log_model(model, name=cls.__name__, examples=DATA)
        folder = tracking.resolve(version.uri).parents[1]
        history = DATA.matrix[:1].copy()
        history.data, history.indices = np.ones(3, dtype=np.float32), DATA.items.codes([7, 9, 12])
        history.indptr = np.array([0, 3])
        ids, scores = model.recommend(0, history, N=3)
        items = [str(item) for item in DATA.items.ids(ids)]
        module = folder / "code" / f"{cls.__module__.replace('.', '/')}.py"
        expected.append(f"{module}|{items}|{[round(score, 4) for score in scores.tolist()]}")
        arguments += [str(folder), cls.__module__]
    shutil.rmtree(tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-c", FRESH, *arguments],
        cwd=mlflow_root,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    forget()
    for folder, cls in zip(arguments[::2], own, strict=True):
        with pytest.raises(BundleError, match=f"{cls.__name__}.* not registered: import {cls.__module__}"):
            tracking.load(folder)


def test_a_model_that_waits_takes_its_source_along(own, mlflow_root, monkeypatch):
    def unavailable(*_, **__):
        raise TrackingUnavailable("no answer")

    model = own[1](regularization=5.0).fit(DATA, show_progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "start", unavailable)
        patch.setattr(runs, "create", unavailable)
        with tracking.start_run(Workspace(), "own") as tracker:
            tracking.log_model(model, name="later", examples=DATA)
    assert tracker.waiting
    forget()
    sys.path.remove(str(mlflow_root / "source"))
    (done,) = tracking.sync(Workspace())
    assert (done.waiting, done.reason) == (0, "")
    folder = tracking.resolve("models:/later/1").parents[1]
    assert {"my_package/parts/models.py", "my_package/scale.py"} <= files(folder / "code")
    assert tracking.version_tags("later", 1) == {"model": "Within"}


def test_the_module_or_its_package_is_copied_and_nothing_else(own, tmp_path):
    alone, within = own
    for cls, wanted in (
        (alone, {"my_models.py"}),
        (
            within,
            {f"my_package/{name}.py" for name in ("__init__", "scale", "parts/__init__", "parts/models")},
        ),
        (registry.Recommender, set()),
        (type("Prompt", (), {"__module__": "__main__"}), set()),
        (type("Built", (), {"__module__": "builtins"}), set()),
    ):
        copy_source(cls, tmp_path / cls.__name__)
        copied = [path for path in (tmp_path / cls.__name__).rglob("*") if path.is_file()]
        assert {path.relative_to(tmp_path / cls.__name__).as_posix() for path in copied} == wanted


def test_a_module_is_imported_from_the_logged_code_only(own, tmp_path):
    alone, _ = own
    code = tmp_path / "code"
    copy_source(alone, code)
    import_source("Alone", "my_models", tmp_path / "nothing")  # registered already
    import_source("EASE", "recsys.models.linear", tmp_path / "nothing")
    registry._REGISTERED.pop("Alone")
    with pytest.raises(BundleError, match=r"another module my_models is imported already, from .*source/my_models.py"):
        import_source("Alone", "my_models", code)
    forget()
    with pytest.raises(BundleError, match="does not hold my_models, which defines Alone"):
        import_source("Alone", "my_models", tmp_path / "nothing")
    with pytest.raises(BundleError, match="move the class into a module of its own"):
        import_source("Alone", "__main__", code)
    assert "my_models" not in sys.modules
    path = list(sys.path)
    import_source("Alone", "my_models", code)
    assert sys.modules["my_models"].__file__ == str(code / "my_models.py")
    assert registry.MODELS["Alone"] is sys.modules["my_models"].Alone
    assert sys.path == path
    (code / "broken.py").write_text("import no_such_library")
    with pytest.raises(BundleError, match="broken, which was logged with the model, cannot be imported: No module"):
        import_source("Broken", "broken", code)
    (code / "apart.py").write_text(
        (code / "my_models.py").read_text().replace("@register", "").replace("Alone", "Apart")
    )
    import_source("Apart", "apart", code)
    assert registry._REGISTERED.pop("Apart") is sys.modules.pop("apart").Apart

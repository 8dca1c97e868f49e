"""Models of the package and of a user: registered once, found by name everywhere."""

import ast
import inspect
import pydoc
import subprocess
import sys
import textwrap
from abc import abstractmethod
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import recsys
from recsys import models
from recsys.errors import BundleError, ConfigError, DataError
from recsys.models import EASE, MODELS, MultVAE, Popularity, Recommender, load, model_class, register, registry
from recsys.params import Positive
from tests.contract import ratings

MATRIX = ratings()


@pytest.fixture(autouse=True)
def _own_models_are_forgotten():
    before = dict(registry._REGISTERED)
    yield
    registry._REGISTERED.clear()
    registry._REGISTERED.update(before)


def concrete(cls=Recommender):
    """Every class below one that can be made an object of."""
    for child in cls.__subclasses__():
        if child.__module__.startswith("recsys.") and not inspect.isabstract(child):
            yield child
        yield from concrete(child)


def test_every_model_of_the_package_is_registered_and_a_name_of_it():
    assert set(concrete()) == set(MODELS.values())
    for name, cls in MODELS.items():
        assert getattr(models, name) is model_class(name) is cls
        assert name in models.__all__
    space = {}
    exec("from recsys.models import *", space)
    assert set(space) >= {*MODELS, "load", "register"}


def test_type_checkers_see_every_model():
    tree = ast.parse(Path(models.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname: node.module for node in block.body for alias in node.names if alias.name == alias.asname}
    assert seen == {name: cls.__module__ for name, cls in MODELS.items()}


def test_a_name_that_nobody_registered_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown model 'MultVEA'; did you mean 'MultVAE'\?; .* \(--import MODULE\)"):
        model_class("MultVEA")


def test_a_class_becomes_a_keyword_only_dataclass_with_help():
    @register
    class Boosted(Popularity):
        """Popularity, louder."""

        boost: Positive = 2.0
        """Factor on every score."""

    assert model_class("Boosted") is Boosted
    assert [field.name for field in fields(Boosted)] == ["boost"]
    assert Boosted(boost=3.0).params() == {"boost": 3.0}
    with pytest.raises(TypeError):
        Boosted(3.0)
    with pytest.raises(ConfigError, match="boost of Boosted must be a finite number > 0, got 0"):
        Boosted(boost=0).fit(MATRIX)
    assert Boosted.__doc__.endswith("boost: a finite number > 0. Default 2.0. Factor on every score.")
    assert register(Boosted).__doc__.count("boost:") == 1
    shown = pydoc.plain(pydoc.render_doc(recsys.MultVAE))  # what help() shows
    assert "anneal_steps: a whole number ≥ 0 or None. Default None. Optimizer steps until" in shown


def test_what_cannot_be_registered_is_refused():
    with pytest.raises(ConfigError, match=r"inherits from recsys.Recommender, got <class 'int'>"):
        register(int)

    class Half(Popularity):
        @abstractmethod
        def missing(self): ...

    with pytest.raises(ConfigError, match="Half lacks missing"):
        register(Half)
    with pytest.raises(ConfigError, match="registered a model EASE already; choose another class name"):
        register(type("EASE", (Popularity,), {"__module__": "elsewhere"}))
    assert model_class("EASE") is EASE

    class Odd(Popularity):
        size: "Nowhere" = 1  # noqa: F821

    with pytest.raises(ConfigError, match="types of Odd's hyperparameters cannot be read"):
        register(Odd)
    assert "Odd" not in MODELS


def test_a_class_that_does_not_say_what_it_can_do_is_refused():
    hooks = {name: lambda self: None for name in Recommender.__abstractmethods__}
    with pytest.raises(ConfigError, match="Silent does not say what it can do"):
        register(type("Silent", (Recommender,), hooks))


def test_a_class_defined_again_takes_the_place_of_the_first():
    def define(boost):
        @register
        class Again(Popularity):
            """Defined in a cell that is run twice."""

            size: Positive = boost

        return Again

    define(1.0)
    second = define(2.0)
    assert model_class("Again") is second


OWN = """
from recsys.models import MultVAE, Popularity, register
from recsys.params import Positive

@register
class Own(Popularity):
    '''A model of a user.'''
    boost: Positive = 2.0
    '''Factor.'''

"""
SAVE = """
from tests.contract import ratings
Own(boost=3.0).fit(ratings(), show_progress=False).save("saved")
"""


def run(code, folder):
    """Run Python in a process of its own, with the folder first on the path."""
    here = Path(recsys.__file__).parents[1]
    lines = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(here)!r}]\n{textwrap.dedent(code)}"
    done = subprocess.run([sys.executable, "-c", lines], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_models_own_module_must_be_imported_before_its_bundle_is_read(tmp_path):
    (tmp_path / "own_models.py").write_text(OWN + "open('imported', 'a').close()\n")
    run("from own_models import Own" + SAVE, tmp_path)
    (tmp_path / "imported").unlink()
    with pytest.raises(
        BundleError, match=r"holds a Own, which is not registered: import own_models, .*--import own_mo"
    ):
        load(tmp_path / "saved")
    code = """
        import recsys
        try:
            recsys.load("saved")
        except recsys.errors.BundleError:
            pass
        import os
        assert "own_models" not in sys.modules and not os.path.exists("imported")  # loading imports nothing
        import own_models
        assert recsys.load("saved").params() == {"boost": 3.0}
    """
    run(code, tmp_path)
    assert (tmp_path / "imported").exists()


def test_a_model_of_a_script_must_be_defined_again(tmp_path):
    run(OWN + SAVE, tmp_path)
    with pytest.raises(BundleError, match="it was defined in a script or notebook: run what defines and registers it"):
        load(tmp_path / "saved")


def test_a_model_that_this_version_lacks_is_named(tmp_path):
    @register
    class Gone(Popularity):
        """Of this package's next version."""

    model = Gone().fit(MATRIX, show_progress=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Gone, "__module__", "recsys.models.next")
        model.save(tmp_path / "saved")
    del registry._REGISTERED["Gone"]
    with pytest.raises(BundleError, match=r"holds a Gone, which is not registered: this version knows .*EASE"):
        load(tmp_path / "saved")


def test_a_subclass_may_declare_less():
    @register
    class Quiet(MultVAE):
        """Keeps no users."""

        capabilities = replace(MultVAE.capabilities, keeps_users=False)

    model = Quiet(hidden=4, latent=2, epochs=1).fit(MATRIX, show_progress=False)
    assert not hasattr(model, "embeddings_")


def test_an_override_without_a_type_is_refused_and_not_dropped():
    with pytest.raises(ConfigError, match=r"Plain\.regularization overrides a hyperparameter: give it a type"):

        @register
        class Plain(EASE):
            """A dataclass would keep the parent's 500."""

            regularization = 7.0


@pytest.mark.parametrize("scores", [torch.zeros(24, 16), torch.zeros(24, 15, dtype=torch.int64), np.zeros((24, 15))])
def test_scores_of_another_shape_or_type_are_refused(scores):
    class Odd(EASE):
        """Scores that name items which do not exist."""

        def _scores(self, histories, userid, items, out=None):
            return scores

    histories = ratings(n_users=24, n_items=15)
    model = Odd().fit(histories, show_progress=False)
    with pytest.raises(DataError, match=r"_scores of Odd must give a float tensor \(24, 15\)"):
        model.recommend(np.arange(24), histories)
    with pytest.raises(DataError, match=r"_scores of Odd must give a float tensor \(24, 2\)"):
        model.recommend_users([0, 3], user_items=histories)

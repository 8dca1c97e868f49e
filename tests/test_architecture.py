"""The shape of the package: which part may import which, and what no part may do."""

import ast
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import recsys

ROOT = Path(recsys.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Lowest first. When a file is imported it imports from layers above its own in this list; what closes a circle waits
# inside a function.
LAYERS = [
    {"errors", "columns", "claims"},
    {"outputs", "mapped", "devices"},
    {"extras", "ids", "sparse", "files", "options", "memory", "workspace", "ranks"},
    {"times", "matching", "grid", "arguments"},
    {"frames", "params", "common_options"},
    {"interactions", "nn", "ranking", "artifacts", "metrics", "spool"},
    {"datasets", "splits", "training", "features"},
    {"shards"},
    {"data_report", "models", "evaluation", "error_budget"},
    {"approximate", "rules"},
    {"adapters", "drift", "export", "preparing", "promotion", "report", "scoring", "tracking"},
    {"analysis", "pyfunc_model", "config"},
    {"tuning", "first_commands"},
    {"jobs", "commands", "hints"},
    {"cli"},
    {"__main__"},
    {"__init__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}

DOOR = ROOT / "tracking" / "_mlflow.py"

# Pieces that know nothing of tables and files.
ARITHMETIC = ("nn", "training", "ranking", "metrics", "sparse")


def part_of(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path, *, deferred=True):
    """Modules that a file imports as (dotted name, inside a function or under TYPE_CHECKING)."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    later = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in later and not deferred:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            if node.module == "recsys":
                yield from (f"recsys.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_part_has_its_layer():
    assert {part_of(path) for path in FILES} == set(LEVEL)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path):
    own = part_of(path)
    for name in imports(path, deferred=False):
        if name.startswith("recsys."):
            other = name.split(".")[1]
            if other == own:
                continue
            assert LEVEL[other] < LEVEL[own], f"{own} imports {other}, which lies on its level or above"


def test_within_a_part_no_file_imports_itself_by_a_detour():
    modules = {".".join(("recsys", *path.relative_to(ROOT).with_suffix("").parts)): path for path in FILES}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}

    def imported(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in modules else node.module for name in inner)

    def part(name):
        return name.split(".")[:2]

    graph = {name: {other for other in imported(path) if part(other) == part(name)} for name, path in modules.items()}
    assert graph["recsys.tracking.outbox"] >= {"recsys.tracking.runs", "recsys.tracking.events"}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_may_be_imported(path):
    own, found = part_of(path), {name.split(".")[0] for name in imports(path)}
    assert not found & {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}, "a load would execute code"
    if own in ARITHMETIC:
        assert "pandas" not in found, "tables end where arithmetic begins"
    if own == "nn":
        assert found <= {"torch", "recsys", *sys.stdlib_module_names}
    if path != DOOR:
        assert "mlflow" not in found, f"{DOOR.relative_to(ROOT)} is the one door to MLflow"


FORBIDDEN = {
    "eval": "executes text",
    "exec": "executes text",
    "np.random.seed": "changes a generator that belongs to the caller",
    "numpy.random.seed": "changes a generator that belongs to the caller",
    "random.seed": "changes a generator that belongs to the caller",
    "torch.manual_seed": "changes a generator that belongs to the caller",
    "torch.load": "unpickles",
    "torch.save": "pickles",
    "np.load": "may unpickle",
    "print": "a library reports by return values; the jobs print",
}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_never_called(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "print" and part_of(path) in ("jobs", "cli"):
                continue
            assert name not in FORBIDDEN, f"{path.name}:{node.lineno} calls {name}, which {FORBIDDEN[name]}"


def test_every_public_name_exists_and_has_a_docstring():
    for name in recsys.__all__:
        assert getattr(recsys, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'Autorec'"):
        _ = recsys.Autorec


def test_the_public_names_are_these():
    """A name that appears or goes is a change of the public API: it belongs in the changelog, and here."""
    expected = {
        "Comparison DataReport Evaluation IdMap Interactions Part Recommender Rules Split Validation Workspace",
        "__version__",
        "activity_groups cold_user_curve compare describe evaluate intervals leaks load recommend_frame score",
        "explain_frame recommend_users_frame similar_items_frame similar_users_frame",
        "adapters analysis datasets errors export metrics models promotion ranks report rules shards splits tracking",
        "tuning",
        "UAutoRec IAutoRec DeepAutoRec DeepRecommender SparseFC GLocalK MultVAE MultDAE VAE RecVAE MacridVAE HVamp",
        "FLVAE VASP BottleneckAE SparseAE DenoisingAE ContractiveAE CDAE ClusteringAE FeatureConsistentAE AAE VAEGAN",
        "ALI UAE EASE EDLAE DLAE RDLAE DEQL HigherOrderEASE ELSA SANSA InfiniteAE ALS BPR ItemKNN Popularity Blend",
        "ContentKNN FEASE WithFeatures WithUserFeatures Features",
    }
    assert set(recsys.__all__) == {name for line in expected for name in line.split()}
    assert dir(recsys) == sorted(recsys.__all__)


def functions():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def test_no_function_is_longer_than_a_screen():
    long = {
        name: node.end_lineno - node.lineno + 1 for name, node in functions() if node.end_lineno - node.lineno >= 70
    }
    assert not long


PUBLIC_VERBS = {"score", "score_spark", "recommend_frame", "train", "evaluate", "from_frame", "read", "page"}
"""Functions that a user calls by keywords: they may take more than eight."""


def test_no_function_takes_more_than_eight_parameters():
    for name, node in functions():
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        count = sum(argument.arg not in ("self", "cls") for argument in arguments)
        assert count <= 8 or node.name in PUBLIC_VERBS, f"{name} takes {count} parameters"


def test_no_file_is_longer_than_350_lines():
    lines = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert {name: n for name, n in lines.items() if n > 350} == {}


def test_no_class_stands_deeper_than_three_below_its_contract():
    from recsys.models import MODELS, Recommender

    def depth(cls):
        return (
            0 if cls is Recommender else 1 + max(depth(base) for base in cls.__bases__ if issubclass(base, Recommender))
        )

    depths = {name: depth(cls) for name, cls in MODELS.items()}
    assert {name: deep for name, deep in depths.items() if deep > 3} == {}
    assert max(depths.values()) == 3


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_public_code_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path.name} says nothing about itself"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: {node.name}"

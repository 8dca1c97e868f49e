"""Whatever the command is given, it ends with 0, or with a code and one line that says why: never with a traceback."""

import contextlib
import io
import os
import shutil
import urllib.error
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import recsys
from recsys import tracking
from recsys.arguments import COMMON, FORMS, Command
from recsys.cli import main
from recsys.commands import COMMANDS
from recsys.errors import DataError, DataWarning, Exit
from recsys.metrics import METRICS
from recsys.models import MODELS
from recsys.splits import SPLITTERS
from recsys.workspace import Workspace
from tests.test_config_types import KEYS

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck), database=None)
LONG = settings(QUICK, max_examples=3000)

ODD = [
    *(
        "",
        " ",
        "0",
        "-1",
        "+1",
        "1_000",
        "1e9",
        "nan",
        "²",
        "١٢",
        "9" * 19,
        "9" * 5000,
        "true",
        "champion",
        "-",
        "--",
        "-n",
    ),
    *(
        "\0",
        "a\0b",
        "\udcff",
        "a\nb",
        "\u2028",
        "é🎬",
        "a" * 5000,
        "%s",
        "%(prog)s",
        "{}",
        "$HOME",
        "@file",
        "[" * 3000,
    ),
    *("~nobody-here/x", "nowhere/x.parquet", "x.html", "a/b:c", "http://[", "s3://bucket/key", "file:///nowhere"),
    *("models:/", "models:/small", "models:/small@", "models:/small@champion", "models:/small/1", "models:/small/-1"),
    *(
        f"models:/small/{'9' * 5000}",
        "models:/small/9" + "0" * 17,
        "models:/\udcff/1",
        "models:/\udcff@x",
        "models:/a\nb/1",
    ),
    *(
        "runs:/",
        "runs:/0/model",
        "runs:/\udcff/model",
        f"runs:/{'a' * 5000}",
        "small",
        "ndcg@10",
        "ndcg@",
        f"ndcg@{'9' * 5000}",
    ),
    *("model.hidden=3", "split.n_users=true", "data.name=ml-1m", "a.b.c", "=", ".=1", "model=1", "model.name=EASE"),
]
"""Arguments that somebody, or some script, may give."""
WORDS = st.text(st.characters(exclude_characters="/.\\"), max_size=12)  # no path out of the test's folder


class World(NamedTuple):
    """A folder with a data set, a saved model and configurations; the working folder is an empty one in it."""

    folder: Path
    files: tuple[str, ...]


@pytest.fixture(scope="module")
def world(tmp_path_factory, mlflow_template):
    """A world where nothing is trained, downloaded or served: a configuration that could be is stopped there."""
    folder, before = tmp_path_factory.mktemp("world"), Path.cwd()
    recsys.datasets.synthetic(60, 30, 900).to_frame().to_csv(folder / "ratings.csv", index=False)
    data = recsys.datasets.read(folder / "ratings.csv")
    model = recsys.Popularity().fit(data)
    section = {"name": "own", "file": str(folder / "ratings.csv")}
    model.about_ = {"config": {"data": section, "split": {"kind": "by_time"}, "model": {"name": "Popularity"}}}
    model.save(folder / "model")
    whole = tomli_w.dumps({**model.about_["config"], "track": {"register": "small"}, "tune": {"trials": 1}})
    (folder / "whole.toml").write_text(whole, encoding="utf-8")
    (folder / "empty.toml").write_text("", encoding="utf-8")
    (folder / "broken.toml").write_bytes(b"\xff[[")
    (folder / "users.txt").write_text(f"1\n{'9' * 5000}\n", encoding="utf-8")
    (folder / "empty.csv").write_text("", encoding="utf-8")
    (folder / "here").mkdir()
    shutil.copytree(mlflow_template / "mlruns", folder / "here" / "mlruns")
    os.chdir(folder / "here")
    tracking.configure(Workspace())
    client = tracking.store.connect()
    client.create_registered_model("small")
    client.create_model_version("small", source=str(folder / "model"))
    client.set_registered_model_alias("small", "champion", "1")

    def stopped(*_: Any, **__: Any) -> Any:
        raise DataError("stopped")

    def offline(*_: Any, **__: Any) -> Any:
        raise urllib.error.URLError("offline")

    patch = pytest.MonkeyPatch()
    for name in ("train.train_one", "nightly.train_one", "compare.train_one", "tune.tune", "compare.tune", "demo.run"):
        patch.setattr(f"recsys.jobs.{name}", stopped)
    patch.setattr("recsys.jobs.registry.ui", stopped)
    patch.setattr("recsys.datasets.synthetic", stopped)
    patch.setattr("recsys.datasets.catalog.synthetic", stopped)
    patch.setattr("urllib.request.urlopen", offline)
    yield World(folder, tuple(str(path) for path in sorted(folder.iterdir())))
    patch.undo()
    os.chdir(before)


def ended(*argv: str) -> tuple[int, str]:
    """Return the exit code of a command and what it wrote to standard error; any exception but SystemExit passes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        try:
            return main(argv), err.getvalue()
        except SystemExit as error:
            return int(error.code or 0), err.getvalue()


def assert_ends_well(*argv: str) -> None:
    """Fail unless the command succeeds or refuses with one line (argparse: its usage, then one line)."""
    code, err = ended(*argv)
    assert code in set(Exit), (argv, code, err)
    if code == 2 and err.startswith("usage:"):
        assert "error: " in err, (argv, err)
    elif code and "--verbose" in argv:  # the traceback comes first
        assert err.splitlines()[-1].startswith("recsys "), (argv, err)
    elif code:
        assert err.startswith("recsys "), (argv, err)
        assert err.splitlines() == [err.removesuffix("\n")], (argv, err)


# Arguments


@st.composite
def arguments(draw: Callable[..., Any], files: tuple[str, ...]) -> list[str]:
    """Return a command with values for what it needs and for some of its options, odd or not."""
    command: Command = draw(st.sampled_from(COMMANDS))
    value = st.one_of(st.sampled_from(ODD), st.sampled_from(files), WORDS)
    fitting = {
        "config": files[-2:],
        "configs": files[-2:],
        "model": ("model", *files),
        "name": ("small",),
        "items": ("1", "2", "30"),
    }
    found = command.name.split()
    for flags, options in (*command.options, *COMMON, *(FORMS if command.table else ())):
        flag, count = flags[0], 1 if options.get("nargs") != "+" else draw(st.integers(1, 3))
        if not flag.startswith("-"):
            good = st.sampled_from(fitting[flag]) if flag in fitting else value
            found += draw(st.lists(st.one_of(good, value), min_size=count, max_size=count))
        elif options.get("required") or draw(st.integers(0, 3)) == 0:
            glued = draw(st.booleans())
            alone = options.get("action") in ("store_true", "store_const")
            text = "" if alone else draw(value)
            found += [flag] if alone else [f"{flag}={text}"] if glued else [flag, text]
    if draw(st.integers(0, 19)) == 0:
        found.insert(draw(st.integers(0, len(found))), draw(value))
    return found


def fuzz_arguments(world: World, level: settings) -> None:
    @level
    @given(arguments(world.files))
    def check(argv: list[str]) -> None:
        assert_ends_well(*argv)

    check()


# Configurations


def jobs(file: Path) -> st.SearchStrategy[list[str]]:
    """Return commands that read a configuration before they do anything."""
    output = str(file.parent / "out")
    given = [
        ["train"],
        ["tune"],
        ["nightly"],
        ["data"],
        ["compare", str(file.with_name("whole.toml")), "--output", output],
    ]
    return st.sampled_from(
        [[*words, str(file), "--quiet"] for words in given if words[0] != "data"] + [["data", str(file)]]
    )


NAMES = [*MODELS, *SPLITTERS, *(metric.at("10") for metric in METRICS.values()), "synthetic", "auto", "tpe", "last"]
SCALARS = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(ODD[:12]),
    st.booleans(),
    st.integers(-3, 5),
    st.sampled_from([2**31, 2**32, 2**63, 2**64, 10**30]),
    st.floats(),
    st.dates(),
    st.datetimes(),
    st.text(max_size=5),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
RANGES = st.fixed_dictionaries({}, optional=dict.fromkeys(("low", "high", "log", "step", "other"), SCALARS))


@st.composite
def trees(draw: Callable[..., Any]) -> dict[str, Any]:
    """Return a configuration of known and unknown keys with values of any type."""
    tree: dict[str, Any] = {}
    for section, key, _, more in draw(st.lists(st.sampled_from(KEYS), max_size=6)):
        if not key and draw(st.integers(0, 3)):
            continue
        for setting in (*more, ""):
            name, _, value = setting.partition("=")
            place = tree.setdefault(section, {})
            if name and isinstance(place, dict):
                place[name.partition(".")[2]] = value
        value = draw(
            st.dictionaries(st.sampled_from(["hidden", "epochs", "name"]), RANGES) if key == "space" else VALUES
        )
        if not key:
            tree[section] = value
        elif isinstance(tree[section], dict):
            tree[section][key] = value
    if draw(st.integers(0, 9)) == 0:
        tree[draw(st.text(max_size=5))] = draw(VALUES)
    return tree


def fuzz_trees(world: World, level: settings) -> None:
    file = world.folder / "tree.toml"

    @level
    @given(trees(), jobs(file))
    def check(tree: dict[str, Any], argv: list[str]) -> None:
        file.write_bytes(tomli_w.dumps(tree).encode("utf-8", "surrogatepass"))
        assert_ends_well(*argv)

    check()


PIECES = st.one_of(
    st.binary(max_size=8), st.sampled_from([b"\n", b"[", b"]", b"=", b'"', b"'''", b"\xef\xbb\xbf", b"{", b"9" * 5000])
)


def fuzz_bytes(world: World, level: settings) -> None:
    file, whole = world.folder / "bytes.toml", (world.folder / "whole.toml").read_bytes()
    cuts = st.tuples(st.integers(0, len(whole)), st.integers(0, 9), PIECES)

    @level
    @given(st.one_of(st.binary(max_size=60), st.lists(cuts, max_size=4)), jobs(file))
    def check(change: Any, argv: list[str]) -> None:
        text = change if isinstance(change, bytes) else whole
        for start, length, piece in () if isinstance(change, bytes) else change:
            text = text[:start] + piece + text[start + length :]
        file.write_bytes(text)
        assert_ends_well(*argv)

    check()


LITERALS = st.one_of(
    VALUES.map(lambda value: tomli_w.dumps({"a": value}).partition("=")[2].strip()),
    st.sampled_from(ODD),
    st.text(max_size=12),
)


def fuzz_overrides(world: World, level: settings) -> None:
    key = st.one_of(
        st.sampled_from([".".join(filter(None, (section, key))) for section, key, *_ in KEYS]),
        st.sampled_from(
            ["", ".", "a", "a.b.c", "model.name.x", "tune.space.hidden", "tune.space.hidden.low", "." * 3000]
        ),
        st.text(max_size=8),
    )
    setting = st.one_of(st.tuples(key, LITERALS).map("=".join), st.text(max_size=12))
    file = world.folder / "whole.toml"

    @level
    @given(st.lists(setting, max_size=4), jobs(file).filter(lambda argv: argv[0] != "data"))
    def check(given: list[str], argv: list[str]) -> None:
        assert_ends_well(*argv, *(f"--set={text}" for text in given))

    check()


FUZZ = [fuzz_arguments, fuzz_trees, fuzz_bytes, fuzz_overrides]


@pytest.mark.parametrize("fuzz", FUZZ)
def test_the_command_ends_well(world, fuzz):
    fuzz(world, QUICK)


@pytest.mark.slow
@pytest.mark.parametrize("fuzz", FUZZ)
def test_the_command_ends_well_whatever_it_is_given(world, fuzz):
    fuzz(world, LONG)

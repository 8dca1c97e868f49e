"""Bundles changed by someone who computes the checksums anew, and what loading and using them comes to.

A mutation changes a copy of a bundle and says what must follow:

- `refuse`: no saved model is like that, so that loading must raise a BundleError;
- `same`: nothing that counts is changed, so that the model must answer as before;
- `may`: what it holds is a value like others (a weight, a hyperparameter that prediction reads, an id), or random
  bytes. It may be refused or loaded, and may then answer otherwise.

Whatever is loaded must answer or raise an error of the package, and come back from `save` as it is. `python -m
tests.bundle_mutations FOLDER SEED COUNT` runs this in a process of its own, which may take little more memory than it
has at the beginning and prints a line per mutation.
"""

import json
import math
import os
import resource
import shutil
import struct
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import load_file, save_file

import recsys
from recsys.errors import BundleError, DataWarning, RecsysError
from recsys.files import sha256_of_file, sha256_of_json
from recsys.models import MODELS
from tests.contract import CASES, quick, ratings

ROOM = 320 * 2**20
"""Bytes of address space that the work on all mutations may take beyond what the process had."""
RATES = {"unobserved_weight": 0.0, "biases": 2.0, "normalize": True}
BASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in CASES},
    "UAutoRec that rates": ("UAutoRec", RATES),
    "IAutoRec that rates": ("IAutoRec", RATES),
    "VAE with a composite prior": ("VAE", {"prior": "composite"}),
}
"""The models whose bundles are changed: each of the package, and some with further arrays."""
ARCHITECTURE = [
    "hidden",
    "latent",
    "factors",
    "dim",
    "layers",
    "decoder_layers",
    "pseudo_inputs",
    "perceptual",
    "discriminator",
    "normalize",
    "biases",
]
"""Hyperparameters that the shapes of the stored arrays follow."""

WRONG: tuple[Any, ...] = ("x", True, None, [], {}, [[1]], math.nan, math.inf, -math.inf, 10**400, "1")


def table():
    matrix = ratings(n_users=24, n_items=15, density=0.3)
    rows, columns = matrix.nonzero()
    frame = pd.DataFrame({"user_id": [f"u{row}" for row in rows], "item_id": columns + 100, "rating": matrix.data})
    about = pd.DataFrame({"item_id": range(100, 115), "kind": [["ab"[n % 2], "cde"[n % 3]] for n in range(15)]})
    return recsys.Interactions.from_frame(frame, titles={n: f"Title {n}" for n in range(100, 115)}, items=about)


DATA = table()
STRANGERS = np.full(DATA.shape[0], -1)


class Files:
    """The files of a bundle as values to change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text())
        self.arrays = load_file(folder / "weights.safetensors")

    def write(self) -> None:
        """Write weights and configuration, with checksums that fit."""
        save_file(self.arrays, self.folder / "weights.safetensors")
        self.seal()

    def seal(self) -> None:
        """Write the configuration with checksums that fit the files as they are."""
        for name in self.config["files"]:
            if (self.folder / name).is_file():
                self.config["files"][name] = sha256_of_file(self.folder / name)
        self.config.pop("checksum", None)
        self.write_text(json.dumps({**self.config, "checksum": sha256_of_json(self.config)}))

    def write_text(self, text: str) -> None:
        (self.folder / "config.json").write_text(text, encoding="utf-8", errors="surrogatepass")

    def table(self, rng, name=None) -> tuple[Path, str, pa.Table]:
        """Return one of the two files of ids, the name of its column of ids, and what it holds."""
        side = name or str(rng.choice(["user", "item"]))
        path = self.folder / f"{side}s.parquet"
        return path, f"{side}_id", pq.read_table(path)


Mutation = Callable[[Files, np.random.Generator], str | tuple[str, str] | None]
MUTATIONS: list[Mutation] = []


def mutation(function: Mutation) -> Mutation:
    """Add a mutation: it returns what must follow, perhaps with a word on what it did, None where it does not apply."""
    MUTATIONS.append(function)
    return function


def pick(rng, values):
    """Return one of the values, which may be of any types."""
    return values[int(rng.integers(len(values)))]


# Weights


@mutation
def another_shape(files, rng):
    name = pick(rng, sorted(files.arrays))
    array = files.arrays[name]
    others = [array[None], np.stack([array, array]), array.ravel()[: array.size // 2]]
    if array.ndim:
        others += [array[:-1], np.concatenate([array, array[-1:]]), array[:0]]
    if array.ndim == 2 and array.shape[0] != array.shape[1]:
        others.append(np.ascontiguousarray(array.T))
    if array.ndim == 2:
        others.append(array.ravel())
    files.arrays[name] = pick(rng, others)
    files.write()
    return "refuse", name


@mutation
def another_type(files, rng):
    name = pick(rng, sorted(files.arrays))
    old = files.arrays[name].dtype
    new = pick(rng, [t for t in ("f8", "f2", "i1", "u1", "i8", "i4", "u4", "?", "c8", "f4") if np.dtype(t) != old])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files.arrays[name] = files.arrays[name].astype(new)
    files.write()
    index = name.rpartition(".")[2] in ("indices", "indptr") and new in ("i4", "i8")
    return "same" if index else "refuse", f"{name} {new}"


@mutation
def a_type_of_small_floats(files, rng):
    kind = pick(rng, ["BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "NONE"])
    size = {"BF16": 2, "NONE": 4}.get(kind, 1)
    header, start = {}, 0
    for name, array in files.arrays.items():
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [start, start + size * array.size]}
        start += size * array.size
    raw(files, json.dumps(header).encode(), b"\1" * start)
    return "refuse", kind


def raw(files, header, data, length=None):
    size = struct.pack("<Q", len(header) if length is None else length)
    (files.folder / "weights.safetensors").write_bytes(size + header + data)
    files.seal()


@mutation
def a_header_of_nonsense(files, rng):
    content = (files.folder / "weights.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header, data = content[8 : 8 + length], content[8 + length :]
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    kind = pick(rng, ["longer", "huge", "empty", "deep", "hole", "overlap", "axes", "overflow", "zero", "cut", "text"])
    if kind in ("longer", "huge", "empty"):
        raw(files, header, data, {"longer": len(content), "huge": 2**60, "empty": 0}[kind])
    elif kind == "cut":
        raw(files, header, data[: len(data) // 2])
    else:
        headers = {
            "deep": b"[" * 100_000,
            "hole": json.dumps({"popularity": {**entry, "data_offsets": [8, 16]}}).encode(),
            "overlap": json.dumps({"popularity": entry, "x": {**entry, "data_offsets": [4, 12]}}).encode(),
            "axes": json.dumps({"popularity": {**entry, "shape": [1] * 70 + [2]}}).encode(),
            "overflow": json.dumps({"popularity": {**entry, "shape": [2**62, 16]}}).encode(),
            "zero": json.dumps({"popularity": {**entry, "shape": [0, 2**62], "data_offsets": [0, 0]}}).encode(),
            "text": b"popularity",
        }
        raw(files, headers[kind], b"\0" * 16)
    return "refuse", kind


@mutation
def an_array_missing_added_or_renamed(files, rng):
    name = pick(rng, sorted(files.arrays))
    how = pick(rng, ["missing", "added", "renamed"])
    if how == "added":
        files.arrays[pick(rng, ["extra", "network.extra.weight", "embedding"])] = np.zeros(3, np.float32)
    else:
        array = files.arrays.pop(name)
        if how == "renamed":
            files.arrays[f"{name}_"] = array
    files.write()
    return "refuse", f"{name} {how}"


@mutation
def a_value_that_is_not_finite(files, rng):
    name = pick(rng, [name for name, array in sorted(files.arrays.items()) if array.dtype.kind == "f" and array.size])
    files.arrays[name].flat[rng.integers(files.arrays[name].size)] = pick(rng, [np.nan, np.inf, -np.inf])
    files.write()
    return "refuse", name


@mutation
def a_share_or_count_out_of_range(files, rng):
    name = pick(rng, sorted({"popularity", "user_counts"} & files.arrays.keys()))
    files.arrays[name].flat[rng.integers(files.arrays[name].size)] = pick(rng, [-1, 10**6])
    files.write()
    return "refuse", name


@mutation
def other_weights(files, rng):
    name = pick(rng, [name for name, array in sorted(files.arrays.items()) if array.dtype.kind == "f" and array.size])
    array = files.arrays[name].astype(np.float64)
    how = pick(rng, ["scaled", "tiny", "zero", "shuffled", "equal", "one", "negative"])
    changed = {
        "scaled": array * 10.0 ** rng.integers(1, 36),
        "tiny": array * 1e-40,
        "zero": array * 0,
        "shuffled": rng.permutation(array.ravel()).reshape(array.shape),
        "equal": np.full_like(array, 1e20),
        "one": np.where(np.arange(array.size).reshape(array.shape) == rng.integers(array.size), 3e38, array),
        "negative": -array,
    }[how]
    files.arrays[name] = np.asarray(np.clip(changed, -3e38, 3e38), files.arrays[name].dtype)
    files.write()
    return "may", f"{name} {how}"


@mutation
def broken_indices(files, rng):
    prefix = next((name.removesuffix("indptr") for name in files.arrays if name.endswith("indptr")), None)
    if prefix is None:
        return None
    indptr, indices = files.arrays[f"{prefix}indptr"], files.arrays[f"{prefix}indices"]
    row = int(np.flatnonzero(np.diff(indptr) > 1)[0])
    start, stop = int(indptr[row]), int(indptr[row + 1])
    how = pick(
        rng, ["large", "negative", "huge", "unsorted", "twice", "falling", "late", "early", "long", "short", "jump"]
    )
    if how in ("large", "negative", "huge"):
        indices[rng.integers(len(indices))] = {"large": 24, "negative": -1, "huge": 2**31 - 1}[how]
    elif how == "unsorted":
        indices[start:stop] = indices[start:stop][::-1].copy()
    elif how == "twice":
        indices[start + 1] = indices[start]
    else:
        place = {"falling": row + 1, "late": 0, "early": 0, "long": -1, "short": -1, "jump": row + 1}[how]
        indptr[place] = {"late": 1, "early": -1, "long": len(indices) + 9, "short": len(indices) - 1}.get(
            how, {"falling": -5, "jump": 2**31 - 1}.get(how)
        )
    files.write()
    return "refuse", how


@mutation
def broken_pairs(files, rng):
    if "pairs" not in files.arrays:
        return None
    pairs = files.arrays["pairs"]
    row = rng.integers(len(pairs))
    pairs[row] = pick(rng, [(0, 15), (-1, 3), (5, 4), (4, 4), (2**31 - 1, 0), (-(2**31), 1)])
    files.write()
    return "refuse"


# The configuration


@mutation
def another_schema(files, rng):
    files.config["schema"] = pick(rng, [-1, 0, True, False, "2", 1e3, 2.0, None, 3, [], {}, 10**30, math.nan])
    files.seal()
    return "refuse", repr(files.config["schema"])


@mutation
def a_number_of_users_or_items(files, rng):
    name = pick(rng, ["n_users", "n_items"])
    old = files.config["state"][name]
    wrong = [*WRONG, old + 1, old - 1, float(old), -old, 0, 2**31, 2**62, 2**63, 10**30]
    files.config["state"][name] = pick(rng, wrong)
    if rng.random() < 0.1:
        del files.config["state"][name]
    files.seal()
    return "refuse", f"{name} {str(files.config['state'].get(name))[:30]}"


@mutation
def a_learned_number(files, rng):
    names = sorted(files.config["state"].keys() - {"n_users", "n_items", "record"})
    if not names:
        return None
    name = pick(rng, names)
    if rng.random() < 0.3:
        old = files.config["state"][name]
        value = rng.normal() * 10.0 ** rng.integers(-300, 300)
        files.config["state"][name] = sorted([value, -value]) if isinstance(old, list) else value
        expected = "may"
    else:
        wrong = [*WRONG, [1.0], [1.0, 2.0, 3.0], [5.0, 1.0], [1.0, None], [math.nan, 2.0], 10**4000]
        files.config["state"][name] = pick(rng, wrong)
        expected = "refuse"
    files.seal()
    return expected, name


RECORDS = (
    *(value for value in WRONG if value != {}),
    *({"epochs": value} for value in (5, None, "x", {}, [1], ["x"], [[]], [{"loss": "x"}], [{"loss": True}])),
    *({"epochs": [{"epoch": 1.0}], "best_epoch": value} for value in (True, 0, -1, 2, 1.5, "1", [])),
    {"epochs": [], "best_epoch": 1},
    {"epochs": [], "metric": 5},
    {"epochs": [], "metric": ["ndcg"]},
    {"epochs": [], "more": 1},
    {"epochs": [{"loss": 10**400}]},
)


@mutation
def a_wrong_record(files, rng):
    files.config["state"]["record"] = pick(rng, RECORDS)
    files.seal()
    return "refuse", str(files.config["state"]["record"])[:60]


@mutation
def a_part_of_another_type(files, rng):
    name = pick(rng, ["about", "params", "state", "files", "model", "module"])
    values = [value for value in (*WRONG, 5, [1], "a b", "..", "") if not (name == "module" and value in (None, "x"))]
    files.config[name] = pick(rng, values)
    expected = "may" if files.config[name] == {} and name in ("about", "params") else "refuse"
    if name == "files":
        body = {key: value for key, value in files.config.items() if key != "checksum"}
        files.write_text(json.dumps({**body, "checksum": sha256_of_json(body)}))
    else:
        files.seal()
    return expected, name


@mutation
def another_class(files, rng):
    files.config["model"] = pick(rng, [*MODELS, "NoSuch", "Recommender", "__main__", "x" * 10_000])
    files.config["module"] = pick(rng, [files.config["module"], None, "os", "antigravity", "__main__"])
    files.seal()
    return "may", files.config["model"][:20]


@mutation
def another_architecture(files, rng):
    names = sorted(files.config["params"].keys() & set(ARCHITECTURE))
    if not names:
        return None
    name = pick(rng, names)
    old = files.config["params"][name]
    if isinstance(old, bool):
        value = not old
    elif name == "biases":
        value = 3.0 if old is None else None
    elif isinstance(old, list):
        others = [[5_000_000], [*old, 3], [10**9] * 3, [1] * 200_000, [10**30], [1, *(width + 1 for width in old)]]
        value = pick(rng, others)
    else:
        value = pick(rng, [5_000_000, old + 1, 1, 10**9, 2**31, 2**62, 10**30])
    files.config["params"][name] = value
    files.seal()
    unused = name == "pseudo_inputs" and files.config["params"].get("prior") == "composite"
    return "may" if unused else "refuse", f"{name} {str(value)[:30]}"


@mutation
def another_hyperparameter(files, rng):
    names = sorted(files.config["params"].keys() - set(ARCHITECTURE))
    if not names:
        return None
    name = pick(rng, names)
    values = [*WRONG, 5_000_000, -1, 0, 1, 0.5, 2**62, 1e300, 1e-300, False, "sigmoid", "bernoulli", "kl", "l1", "auto"]
    files.config["params"][name] = pick(rng, values)
    files.seal()
    return "may", f"{name} {str(files.config['params'][name])[:30]}"


@mutation
def an_unknown_or_missing_hyperparameter(files, rng):
    if rng.random() < 0.5 or not files.config["params"]:
        files.config["params"][pick(rng, ["hiden", "", "__class__", "network_", "self"])] = 1
        expected = "refuse"
    else:
        del files.config["params"][pick(rng, sorted(files.config["params"]))]
        expected = "may"
    files.seal()
    return expected


@mutation
def wrong_metrics(files, rng):
    values = [*WRONG[:-1], "1"]
    wrong = [json.dumps({"ndcg@10": value}) for value in values if not (isinstance(value, float) and value != value)]
    wrong += ["[]", "5", "null", "", "{", '{"a": 1, "a": 2}', "[" * 100_000, '{"\\ud800": 1}', "\ufeff{}"]
    (files.folder / "metrics.json").write_text(pick(rng, wrong), encoding="utf-8")
    files.seal()
    return "refuse"


@mutation
def odd_json(files, rng):
    how = pick(
        rng, ["twice", "deep", "deeper", "surrogate", "digits", "bom", "utf-16", "latin-1", "cut", "trailing", "nan"]
    )
    about = {"deep": 150, "deeper": 50_000}.get(how)
    if about:
        inner = "[" * about + "]" * about
        files.config["about"] = {}
        body = {key: value for key, value in files.config.items() if key != "checksum"}
        text = json.dumps({**body, "checksum": "0" * 64}).replace('"about": {}', f'"about": {{"x": {inner}}}')
        if how == "deep":
            body["about"] = {"x": json.loads(inner)}
            text = text.replace("0" * 64, sha256_of_json(body))
        files.write_text(text)
        return "refuse", how
    if how in ("surrogate", "nan"):
        files.config["about" if how == "surrogate" else "state"]["x" if how == "surrogate" else "n_items"] = (
            "\ud800" if how == "surrogate" else math.nan
        )
        files.seal()
        return "refuse", how
    text = (files.folder / "config.json").read_text()
    if how == "twice":
        text = text.replace('"state":', '"state": {"n_users": 1}, "state":', 1)
    elif how == "digits":
        text = text.replace('"about":', '"number": ' + "1" * 5_000 + ', "about":', 1)
    elif how == "cut":
        text = text[: rng.integers(len(text))]
    elif how == "trailing":
        text += pick(rng, ["x", "{}", "\0"])
    data = {"bom": lambda: b"\xef\xbb\xbf" + text.encode(), "utf-16": lambda: text.encode("utf-16")}.get(how)
    if how == "latin-1":
        (files.folder / "config.json").write_bytes(text.replace('"about"', '"ä": 1, "about"', 1).encode("latin-1"))
    else:
        (files.folder / "config.json").write_bytes(data() if data else text.encode())
    return "refuse", how


@mutation
def the_same_in_other_words(files, rng):
    body = {key: value for key, value in files.config.items() if key != "checksum"}
    how = pick(rng, ["order", "spaces", "schema 1", "hidden file", "hard link", "about"])
    if how == "schema 1":
        files.write_text(json.dumps({**body, "schema": 1}))
    elif how == "hidden file":
        (files.folder / ".DS_Store").write_bytes(b"x")
    elif how == "hard link":
        file = files.folder / "weights.safetensors"
        os.link(file, files.folder.parent / "linked")
        file.unlink()
        os.link(files.folder.parent / "linked", file)
    elif how == "about":
        files.config["about"] = {"note": pick(rng, [1, None, [math.nan], "ü", 2**80])}
        files.seal()
    else:
        shuffled = dict(sorted(files.config.items(), key=lambda pair: hash(pair[0])))
        files.write_text(json.dumps(shuffled, indent=None if how == "order" else 7))
    return "same", how


# Files


@mutation
def a_file_of_another_kind(files, rng):
    name = pick(rng, ["config.json", *files.config["files"]])
    file, outside = files.folder / name, files.folder.parent / f"outside-{name}"
    how = pick(rng, ["link", "link within", "folder", "pipe", "missing", "dangling"])
    shutil.copy(file, outside)
    file.unlink()
    if how == "link":
        file.symlink_to(outside)
    elif how == "link within":
        shutil.copy(outside, files.folder / f".{name}")
        file.symlink_to(f".{name}")
    elif how == "folder":
        file.mkdir()
    elif how == "pipe":
        os.mkfifo(file)
    elif how == "dangling":
        file.symlink_to("nowhere")
    return "refuse", f"{name} {how}"


@mutation
def a_name_in_the_list(files, rng):
    outside = files.folder.parent / "outside"
    outside.write_text("x")
    names = [
        "../outside",
        str(outside),
        "sub/../metrics.json",
        "..",
        ".",
        "",
        "a\0b",
        "./metrics.json",
        "a\\b",
        "x" * 5_000,
    ]
    files.config["files"][pick(rng, names)] = pick(rng, [sha256_of_file(outside), 5, None, [], "0" * 64])
    body = {key: value for key, value in files.config.items() if key != "checksum"}
    files.write_text(json.dumps({**body, "checksum": sha256_of_json(body)}))
    return "refuse"


@mutation
def a_file_beside(files, rng):
    (files.folder / pick(rng, ["x", "weights.pt", "model.pkl", "a b"])).write_bytes(b"x")
    return "refuse"


@mutation
def some_bytes(files, rng):
    file = files.folder / pick(rng, sorted(files.config["files"]))
    content = bytearray(file.read_bytes())
    for _ in range(int(rng.integers(1, 9))):
        place = int(rng.integers(len(content)))
        how = rng.integers(3)
        if how == 0:
            content[place] = int(rng.integers(256))
        elif how == 1:
            del content[place : place + int(rng.integers(1, 9))]
        else:
            content[place:place] = rng.bytes(int(rng.integers(1, 9)))
    file.write_bytes(content)
    files.seal()
    return "may", file.name


@mutation
def some_bytes_of_the_configuration(files, rng):
    text = (files.folder / "config.json").read_text()
    place = int(rng.integers(len(text)))
    changed = text[:place] + pick(rng, ["", *'0123456789"{}[],:e-.tn']) + text[place + 1 :]
    try:
        files.config = json.loads(changed)
        files.seal()
    except (ValueError, KeyError, TypeError, AttributeError):
        files.write_text(changed)
    return "may"


# Ids and titles


@mutation
def other_rows_of_ids(files, rng):
    path, column, old = files.table(rng)
    n = len(old)
    how = pick(rng, ["half", "twice", "none", "one more", "repeated", "missing", "all missing"])
    rows = {"half": np.arange(n // 2), "none": np.arange(0), "repeated": np.r_[0, np.arange(n - 1)]}.get(how)
    if how == "twice":
        new = pa.concat_tables([old, old])
    elif how == "one more":
        new = pa.concat_tables([old, old[:1].set_column(0, column, pa.array(["z"] if column == "user_id" else [999]))])
    elif how in ("missing", "all missing"):
        kept = [
            None if row == 3 or how == "all missing" else value for row, value in enumerate(old[column].to_pylist())
        ]
        new = old.set_column(0, column, pa.array(kept, old[column].type))
    else:
        new = old.take(pa.array(rows))
    pq.write_table(new, path)
    files.seal()
    return "refuse", f"{column} {how}"


@mutation
def ids_of_another_type(files, rng):
    path, column, old = files.table(rng)
    n = len(old)
    values = {
        "floats": np.arange(n, dtype=np.float64),
        "halves": np.arange(n, dtype=np.float16),
        "lists": [[number] for number in range(n)],
        "objects": [{"a": number} for number in range(n)],
        "nothing": pa.nulls(n),
        "decimals": pa.array(range(n)).cast(pa.decimal128(30, 2)),
        "words": pa.array([str(number) for number in range(n)]).dictionary_encode(),
        "large": pa.array([str(number) for number in range(n)], pa.large_string()),
        "uint64": np.arange(n, dtype=np.uint64) + 2**63,
    }
    how = pick(rng, sorted(values))
    pq.write_table(old.set_column(0, column, pa.array(values[how])), path)
    files.seal()
    return "refuse", f"{column} {how}"


@mutation
def columns_of_another_name(files, rng):
    path, column, old = files.table(rng)
    how = pick(rng, ["renamed", "upper", "no columns", "twice", "index"])
    if how == "no columns":
        new = pa.table({})
    elif how == "twice":
        new = pa.Table.from_arrays([old[column], old[column]], [column, column])
    else:
        name = {"renamed": "id", "upper": column.upper(), "index": "__index_level_0__"}[how]
        new = old.rename_columns([name, *old.column_names[1:]])
    pq.write_table(new, path)
    files.seal()
    return "refuse", f"{column} {how}"


@mutation
def wrong_titles(files, rng):
    path, _, old = files.table(rng, "item")
    values = {"numbers": range(15), "lists": [["a"]] * 15, "bytes": [b"\xff"] * 15, "floats": [math.nan] * 15}
    how = pick(rng, sorted(values))
    pq.write_table(old.set_column(1, "title", pa.array(values[how])), path)
    files.seal()
    return "refuse", how


@mutation
def other_ids_and_titles(files, rng):
    path, column, old = files.table(rng)
    how = pick(rng, ["reversed", "others", "more", "no titles", "missing title", "long title", "kind"])
    n = len(old)
    if how == "reversed":
        new = old.take(pa.array(np.arange(n)[::-1]))
    elif how == "others":
        new = old.set_column(0, column, pa.array(rng.permutation(n) + 7_000))
    elif how == "kind":
        new = old.set_column(0, column, pa.array([f"i{number}" for number in range(n)]))
    elif how == "more":
        new = old.append_column("more", pa.array([[number] for number in range(n)]))
    else:
        path, column, old = files.table(rng, "item")
        titles = {"no titles": None, "missing title": [None] * 15, "long title": ["x" * 10**6] * 15}[how]
        new = old.drop_columns(["title"])
        new = new if titles is None else new.append_column("title", pa.array(titles, pa.string()))
    pq.write_table(new, path)
    files.seal()
    return "same" if how == "more" else "may", f"{column} {how}"


@mutation
def a_file_that_decodes_to_far_more(files, rng):
    how = pick(rng, ["rows of users", "rows of items", "titles", "prefixes", "ids", "groups"])
    side = "user" if how in ("rows of users", "ids") else "item"
    path, cached = files.folder / f"{side}s.parquet", files.folder.parents[1] / f"bomb {how}.parquet"
    if not cached.exists():  # written by a process that may take what memory it needs
        raise FileNotFoundError(cached)
    shutil.copy(cached, path)
    files.seal()
    return "refuse", how


def write_bombs(folder: Path) -> None:
    """Write small files that take a hundred megabytes or more when they are read."""
    n, text = 12_000_000, "x" * 100_000_000
    numbers = pa.array(np.zeros(n, dtype=np.int64))
    pq.write_table(pa.table({"user_id": numbers}), folder / "bomb rows of users.parquet", compression="zstd")
    pq.write_table(pa.table({"item_id": numbers}), folder / "bomb rows of items.parquet", compression="zstd")
    items = pa.array(np.arange(100, 115))
    titles = pa.array([text, *[""] * 14])
    pq.write_table(pa.table({"item_id": items, "title": titles}), folder / "bomb titles.parquet", compression="zstd")
    ids = pa.table({"user_id": pa.array([text, *(f"u{row}" for row in range(23))])})
    pq.write_table(ids, folder / "bomb ids.parquet", compression="zstd")
    long = pa.table({"item_id": items, "title": pa.array(["x" * 8_000_000 + str(row) for row in range(15)])})
    encoding = {"item_id": "PLAIN", "title": "DELTA_BYTE_ARRAY"}
    pq.write_table(long, folder / "bomb prefixes.parquet", use_dictionary=False, column_encoding=encoding)
    with pq.ParquetWriter(folder / "bomb groups.parquet", pa.schema([("item_id", pa.int64())])) as writer:
        for _ in range(30):
            writer.write_table(pa.table({"item_id": numbers[:400_000]}), row_group_size=400_000)


# What becomes of it


@dataclass(frozen=True)
class Verdict:
    """What became of one mutation."""

    base: str
    name: str
    detail: str
    expected: str
    outcome: str
    """`refused`, `same`, `other`, or what must not be: `unnoticed`, `lost`, `foreign: …`, `memory: …`."""


def answers(model) -> bytes:
    """Return all that a model answers, or the name of the package's error, as bytes to compare."""
    users, items = np.arange(DATA.shape[0]), np.arange(DATA.shape[1])
    calls: list[Callable[[], Any]] = [
        lambda: model.recommend(users, DATA, N=6),
        lambda: model.recommend(STRANGERS, DATA, N=20, filter_already_liked_items=False),
        lambda: model.recommend(users, None, N=3, filter_already_liked_items=False),
        lambda: model.recommend(-1, DATA.matrix[:1] * 0, N=4, items=items[3:9]),
        lambda: model.recommend_users(items, N=5),
        lambda: model.recommend_users(items, DATA, N=5, userid=users),
        lambda: model.predict(users, DATA, np.tile(items, (len(users), 1))),
        lambda: model.predict(STRANGERS, DATA, np.tile(items, (len(users), 1))),
        lambda: model.similar_items(items, N=5),
        lambda: model.similar_users(users, N=5),
        lambda: model.encode(DATA),
        lambda: model.item_vectors(),
        lambda: None if model.users_ is None else list(model.users_),
        lambda: (
            None if model.items_ is None else (list(model.items_), None if model.titles_ is None else model.titles_)
        ),
    ]
    parts = []
    for call in calls:
        try:
            found = call()
        except RecsysError as error:
            found = type(error).__name__
        arrays = found if isinstance(found, tuple) else (found,)
        parts += [repr(part).encode() if getattr(part, "dtype", "O") == "O" else part.tobytes() for part in arrays]
    return b"\n".join(parts)


def outcome(folder: Path, expected: str, before: bytes, score: bool) -> str:
    """Load a bundle, use the model in every way, and say what became of it."""
    try:
        model = recsys.load(folder, device="cpu")
    except BundleError as error:
        return _memory(error) or ("refused" if expected != "same" else "lost")
    after = answers(model)
    model.save(folder.parent / "saved", metrics={"ndcg@10": 0.5})
    if answers(recsys.load(folder.parent / "saved", device="cpu")) != after:
        return "lost"
    if score and model.users_ is not None:
        with suppress(RecsysError):
            recsys.score(model, DATA, folder.parent / "scored", n=3)
    if after == before:
        return "same" if expected != "refuse" else "unnoticed"
    return "other" if expected == "may" else "unnoticed"


def _memory(error: BaseException | None) -> str:
    while error is not None:
        if isinstance(error, MemoryError) or "allocate" in str(error):
            return f"memory: {error}"
        error = error.__cause__ or error.__context__
    return ""


def write_bases(folder: Path) -> None:
    """Fit and save the models whose bundles are changed, and write what is costly to make."""
    for base, (name, changes) in BASES.items():
        model = MODELS[name](**{**CASES[name], **quick(MODELS[name]), **changes})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)  # the table says nothing of its users
            model.fit(DATA, show_progress=False)
        model.save(folder / base, metrics={"ndcg@10": 0.25}, about={"run_id": None})
    write_bombs(folder)


def run(folder: Path, seed: int, count: int) -> None:
    """Change the bundles of `write_bases` `count` times and print what becomes of it."""
    warnings.simplefilter("ignore")  # of numbers that overflow
    before = {base: answers(recsys.load(folder / base, device="cpu")) for base in BASES}
    recsys.score(recsys.load(folder / "EASE"), DATA, folder / f"scored-{seed}", n=3)  # what is imported late
    status = Path("/proc/self/statm").read_text().split()
    resource.setrlimit(resource.RLIMIT_AS, (int(status[0]) * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))
    for number in range(seed, seed + count):
        rng = np.random.default_rng(number)
        change, work = MUTATIONS[number % len(MUTATIONS)], folder / f"work-{seed}"
        for base in rng.permutation(sorted(BASES)):
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(folder / base, work / "bundle")
            if result := change(Files(work / "bundle"), rng):
                break
        expected, detail = result if isinstance(result, tuple) else (result, "")
        print(json.dumps([base, change.__name__, detail, expected]), end="", flush=True)
        try:
            found = outcome(work / "bundle", expected, before[base], rng.random() < 0.1)
        except Exception as error:
            found = _memory(error) or f"foreign: {type(error).__name__}: {error}"
        print(f"\t{json.dumps(found)}", flush=True)
    shutil.rmtree(folder / f"work-{seed}", ignore_errors=True)


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

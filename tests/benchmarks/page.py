"""The page of figures, made from the JSON alone."""

from __future__ import annotations

from typing import Any

INTRODUCTION = """# Benchmarks

`make bench` and `make bench-peers` generate this page. Every row comes from one run on the machine named by its table.
`of the rate` is the time that the dense products alone would take, divided by the measured time. It assumes the float32
rate that the same process reached on a large square product, so 100 % means that the program only multiplies. Training
that skips products (a masked loss over stored entries, a squared loss through Gram matrices) can exceed 100 %.

| matrix | users × items | stored |
|---|---|---|
| ml-1m | MovieLens-1M, ratings ≥ 4 | see the tables |
| gowalla | Gowalla, LightGCN's training part | |
| ml-20m | generated: 136,677 × 20,108 | 10,000,000 |
"""

TITLES = {
    "multvae": ("Mult-VAE, an epoch", "I-600-200-600-I, batch 500, Adam"),
    "uautorec": ("U-AutoRec, an epoch", "500 hidden, batch 500, masked loss"),
    "iautorec": ("I-AutoRec, an epoch", "500 hidden, batch 500, masked loss"),
    "wholematrix": ("U-AutoRec over the whole matrix, an epoch", "500 hidden, batch 2,000, weight 0.1 elsewhere"),
    "topn": ("top-100", "10,000 users at most, 200-dimensional head"),
    "evaluation": ("evaluation", "top-100 and 18 metrics, the same users and head"),
    "scoring": ("batch scoring", "registry to Parquet, all users, N = 10, the same head"),
    "ease": ("EASE, a fit", "float32"),
}


READING = """## How to read the tables

- An exact full softmax needs three products with the output layer. A program with dense input computes five. If these
  products take most of an epoch, as they do on two cores, the possible gain over such a program is 5/3, plus what it
  spends on other work.
- Losses over stored entries and squared losses over the whole matrix have no such floor. Their gain grows as the matrix
  gets sparser.
- Most of the training memory holds the parameters, Adam's two moments and the gradient: four times the parameters, for
  every program here.
- On AMD's processors with AVX-512, trainings and inverses multiply by oneDNN since 2026-11-28, which the tables above
  do not show. Seconds of one thread of an AMD EPYC (AVX-512, Zen 5), by MKL and by oneDNN in turns, with the same
  losses to seven digits (`python -m tests.benchmarks.products ml-1m gowalla-lightgcn --ease`): an epoch of Mult-VAE on
  all of MovieLens-1M 1.14 and 0.70, on Gowalla 47.6 and 25.2; EASE in float32 on MovieLens-1M 1.51 and 1.10.
- No GPU has been measured.
"""


def render(everything: dict[str, Any]) -> str:
    """Return the page in Markdown."""
    parts = [INTRODUCTION]
    for section, results in everything.items():
        parts.append(_peers(results) if section == "peers" else _own(section, results))
    return "\n".join([*parts, READING])


def _own(section: str, results: dict[str, Any]) -> str:
    lines = [
        f"## recsys on {'the CPU' if section == 'cpu' else 'a GPU'}",
        "",
        f"{results['machine']}; torch {results['torch']}; {results['date']}.",
        "",
        "| what | matrix | seconds | of the rate | peak memory | |",
        "|---|---|--:|--:|--:|---|",
    ]
    for found in results["results"]:
        title, note = TITLES[found["case"]]
        if "error" in found:
            lines.append(f"| {title} | {found['matrix']} | – | – | – | {found['error']} |")
            continue
        lines.append(
            f"| {title} | {found['matrix']} | {_number(found['seconds'])} | "
            f"{100 * found['floor_seconds'] / found['seconds']:.0f} % | {found['peak_bytes'] / 2**30:.2f} GiB | "
            f"{note}{_extra(found)} |"
        )
    if results.get("growth"):
        lines += ["", "How the time of an epoch grows when one quantity is doubled twice (generated matrices):", ""]
        lines += ["| | what doubles | seconds | | |", "|---|---|--:|--:|--:|"]
        groups: dict[tuple[str, str], list[str]] = {}
        for found in results["growth"]:
            groups.setdefault((found["case"], found["grows"]), []).append(_number(found.get("seconds", float("nan"))))
        for (case, what), seconds in groups.items():
            lines.append(f"| {TITLES[case][0]} | {what} | {' | '.join(seconds)} |")
    return "\n".join(lines) + "\n"


def _extra(found: dict[str, Any]) -> str:
    if "product_seconds" in found:
        text = f"; {found['seconds'] / found['product_seconds']:.2f} × the bare product in the same process"
        if "top_n_seconds" in found:
            text += f", {100 * (found['seconds'] / found['top_n_seconds'] - 1):.0f} % over its top-N alone"
        if found["case"] == "scoring":
            text += f"; {found['users'] / found['seconds']:,.0f} users/s"
        return text
    if "squares" in found:
        return f"; its own memory is {found['squares']:.2f} × items² × 4 bytes"
    return f"; {found['steps']} steps"


def _peers(results: dict[str, Any]) -> str:
    lines = [
        "## Compared with other libraries, on the CPU",
        "",
        f"{results['machine']}; {results['date']}. Matrix, network, batch size and number of epochs are the same for "
        "all programs. Each program ran in its own process, one after another. Seconds are those of the fastest epoch "
        "after the first. `share of the floor` is the time of three products with the output layer at the rate "
        "measured in the process, divided by the epoch's time. A full softmax cannot exceed 100 %; a loss over stored "
        "entries can.",
        "",
        "| what | matrix | recsys | share of the floor | other | | times faster | peak memory, recsys | other |",
        "|---|---|--:|--:|--:|---|--:|--:|--:|",
    ]
    for row in results["results"]:
        lines.append(
            f"| {row['what']} | {row['matrix']} | {_number(row['seconds'])} s | "
            f"{100 * row['floor_seconds'] / row['seconds']:.0f} % | {_number(row['peer_seconds'])} s | "
            f"{row['peer']} | {row['peer_seconds'] / row['seconds']:.1f} | {row['peak_bytes'] / 2**30:.2f} GiB | "
            f"{row['peer_peak_bytes'] / 2**30:.2f} GiB |"
        )
    return "\n".join(lines) + "\n"


def _number(seconds: float) -> str:
    return f"{seconds:.2f}" if seconds < 100 else f"{seconds:.0f}"

"""Time and memory of `recsys prepare`: `python -m tests.benchmarks.scale_prepare --rows 50000000`.

Rows of users with text as ids are generated into parquet files: 100 rows a user on average, items by Zipf's law, one
row in fifty repeated. A process of its own prepares them, and its memory is read every 0.2 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PART = 1_000_000
ITEMS = 50_000


def generate(folder: Path, rows: int, seed: int) -> None:
    """Write the table in parts; a folder that holds it already is left as it is."""
    done = folder / "done.json"
    facts = {"rows": rows, "seed": seed}
    if done.exists() and json.loads(done.read_text()) == facts:
        return
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    popularity = np.cumsum(1.0 / np.arange(10, ITEMS + 10))
    items = rng.permutation(ITEMS)
    for number in range(-(-rows // PART)):
        n = min(PART, rows - number * PART)
        users = (rng.random(n) ** 1.5 * (rows / 100)).astype(np.int64)
        drawn = items[np.searchsorted(popularity, rng.random(n) * popularity[-1], "right").clip(max=ITEMS - 1)]
        times = 1_600_000_000 + rng.integers(50_000_000, size=n)
        ratings = rng.integers(1, 6, size=n)
        again = rng.integers(n, size=n // 50)
        users[: len(again)], drawn[: len(again)] = users[again], drawn[again]
        ids = pa.array(np.char.add("user-", np.char.zfill(users.astype("U"), 9)).astype(object), pa.string())
        table = {"user_id": ids, "item_id": drawn, "rating": ratings.astype(np.float32), "timestamp": times}
        pq.write_table(pa.table(table), folder / f"part-{number:05d}.parquet")
    done.write_text(json.dumps(facts))


def watched(command: list[str], root: Path) -> dict[str, float]:
    """Run a command; return its seconds, and the peak of its memory and of the part that no file backs, in MiB."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=root)
    peaks = {"VmRSS:": 0, "RssAnon:": 0}
    while process.poll() is None:
        sums, spaces = dict.fromkeys(peaks, 0), set()
        for child in [process.pid, *descendants(process.pid)]:
            try:
                lines = Path(f"/proc/{child}/status").read_text().splitlines()
                program = Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                continue
            found = {name: int(words[0]) for name, *words in map(str.split, lines) if name in {*peaks, "VmSize:"}}
            # Until it has become another program, what a process starts (by vfork) shares its memory.
            space = program, found.get("VmSize:", 0)
            if space not in spaces:
                spaces.add(space)
                sums = {name: value + found.get(name, 0) for name, value in sums.items()}
        peaks = {name: max(peaks[name], value) for name, value in sums.items()}
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "rss": peaks["VmRSS:"] / 1024, "anonymous": peaks["RssAnon:"] / 1024}


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that they have."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(word) for word in path.read_text().split()]
        except OSError:
            continue
        found += [*own, *(child for one in own for child in descendants(one))]
    return found


def main() -> None:
    """Generate, prepare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000_000)
    parser.add_argument("--engine", default="duckdb")
    parser.add_argument("--memory", default="500MB")
    parser.add_argument("--split", default="hold_out_users", choices=["hold_out_users", "by_time", "leave_last_out"])
    parser.add_argument("--folder", type=Path, help="where the table is kept from call to call")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) if arguments.folder is None else arguments.folder
        table = root / f"table-{arguments.rows}"
        generate(table, arguments.rows, seed=0)
        stable = "stable = true\nn_users = 0.02\n" if arguments.split == "hold_out_users" else ""
        (root / "prepare.toml").write_text(
            f'[data]\nfile = "{table}"\nduplicates = "last"\nmin_rating = 3.0\nbinary = true\nmin_user = 5\n'
            f'min_item = 5\nrepeat_counts = true\n[split]\nkind = "{arguments.split}"\n{stable}'
        )
        command = [sys.executable, "-m", "recsys", "prepare", str(root / "prepare.toml"), "--output", str(root / "out")]
        peaks = watched([*command, "--engine", arguments.engine, "--memory", arguments.memory, "--quiet"], root)
        size = sum(file.stat().st_size for file in (root / "out").iterdir())
        print(json.dumps({**vars(arguments), "folder": None, **peaks, "shards_mib": size / 2**20}))


if __name__ == "__main__":
    main()

"""Projects that tests move, copy, damage and close to writing: what they hold, and looks at what was touched."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys

CONFIG = """
[data]
name = "synthetic"
users = 60
items = 30
interactions = 900
min_rating = 3.0
binary = true
[split]
kind = "hold_out_users"
n_users = 12
[evaluate]
metrics = ["ndcg@10"]
[model]
name = "EASE"
regularization = 5.0
[track]
register = "toy"
"""


def content(folder):
    """The SHA-256 of every file below a folder, and None for every folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@contextlib.contextmanager
def untouched(*folders):
    """See that the block changes no file below some folders."""
    before = [content(folder) for folder in folders]
    yield
    assert [content(folder) for folder in folders] == before


RUNNER = """
import contextlib, io, json, sys
from recsys.cli import main
answers = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


def commands(*calls, before=(), cwd=None, **environment):
    """Call commands one after the other in a process of their own; return status, output and errors of each."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*before, sys.executable, "-c", RUNNER, json.dumps([[str(word) for word in words] for words in calls])],
        cwd=cwd,
        env={**variables, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def read_only(folder):
    """Close a folder to writing for the block; give the words before a command to whom it is closed, None if it cannot.

    Root writes everywhere, so root gets a mount of its own.
    """
    if os.geteuid() == 0:
        mount = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
        words = ["unshare", "-m", "sh", "-c", mount, str(folder)]
        able = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True, check=False)
        yield words if able and able.returncode == 0 else None
        return
    below = [folder, *folder.rglob("*")]
    modes = [path.stat().st_mode for path in below]
    for path in reversed(below):
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        yield []
    finally:
        for path, mode in zip(below, modes, strict=True):
            path.chmod(mode)

"""`make test-lowest`, `make test-newest`: tests of a wheel, with the oldest or the newest versions that it admits.

python -m tests.versions lowest --python python3.12 [arguments of pytest]

The wheel is installed in an environment of its own, and the tests run in a copy of the repository without the package,
so that what they import is the wheel. Warnings are no errors there: old releases of others warn of each other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}
ONLY_SOURCE = "pyspark"
"""What has no wheel; all else is installed from wheels, since old sources do not build with today's compilers."""


def environment(which: str, interpreter: str, folder: Path) -> Path:
    """Return the Python of a new environment with the wheel, and the oldest or newest versions of all that it needs."""
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    subprocess.run([*uv, "venv", "--quiet", "--clear", "--python", interpreter, str(folder)], check=True)
    python, versions = folder / "bin" / "python", folder / "versions.txt"
    rule = ["--resolution", RESOLUTIONS[which], "--only-binary", ":all:", "--no-binary", ONLY_SOURCE]
    needed = [*uv, "pip", "compile", "--quiet", "--python", str(python), "--extra", "dev", "pyproject.toml"]
    subprocess.run([*needed, *rule, "-o", str(versions)], cwd=ROOT, check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    subprocess.run([*install, "-r", str(versions)], check=True)
    shutil.rmtree(folder / "wheel", ignore_errors=True)
    build = [str(python), "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    subprocess.run([*install, "--no-deps", str(wheel)], check=True)
    return python


def copied(folder: Path) -> Path:
    """Return a copy of the repository's files, but for the package."""
    shutil.rmtree(folder, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split("\0"):
        if name and not name.startswith("recsys/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def main() -> int:
    """Install and test; return pytest's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=RESOLUTIONS)
    parser.add_argument("--python", required=True, help="interpreter, or its version if uv has it")
    parser.add_argument("--again", action="store_true", help="use the environment of the last call")
    arguments, given = parser.parse_known_args()
    folder = ROOT / f".venv-{arguments.which}"
    python = folder / "bin" / "python" if arguments.again else environment(arguments.which, arguments.python, folder)
    mine = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    mine["PATH"] = f"{python.parent}{os.pathsep}{mine['PATH']}"
    options = ["-m", "not slow and not servers and not spark", "-o", "filterwarnings=default", "--disable-warnings"]
    tests = [str(python), "-m", "pytest", "-p", "no:cacheprovider", *options, *given]
    return subprocess.run(tests, cwd=copied(folder / "copy"), env=mine, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

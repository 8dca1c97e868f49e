"""`make site`: build the documentation site into build/site, with warnings and broken links as errors."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import links, pages, reference

HERE = Path(__file__).parent


def build(folder: Path, builder: str = "html") -> int:
    """Write the pages, run Sphinx on them and check the links; return the exit status.

    Args:
        folder: of the site, which holds nothing else; its sources gather in `NAME-source` beside it.
        builder: `html`, or `linkcheck`, which asks for every outside address and needs a network.
    """
    source = folder.with_name(f"{folder.name}-source")
    for made in (source, folder):
        if made.exists():
            shutil.rmtree(made)
    pages.written(source)
    reference.written(source)
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", builder, "-c", str(HERE)]
    # The doctrees are kept out of the site, which is what is published.
    done = subprocess.run([*command, "-d", str(source / ".doctrees"), str(source), str(folder)], check=False)
    if done.returncode or builder != "html":
        return done.returncode
    found = links.broken(folder)
    for line in found:
        print(line, file=sys.stderr)
    if not found:
        print(f"{len(list(folder.rglob('*.html')))} pages: {folder / 'index.html'}")
    return bool(found)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m docs.site", description=__doc__)
    parser.add_argument("--output", type=Path, default=pages.ROOT / "build" / "site")
    parser.add_argument("--outside", action="store_true", help="ask for outside addresses instead; needs a network")
    arguments = parser.parse_args()
    sys.exit(build(arguments.output, "linkcheck" if arguments.outside else "html"))

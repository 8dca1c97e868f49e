"""Train a challenger, let it earn the champion's place, and score every user with the champion.

python pipelines/nightly.py pipelines/configs/nightly.toml
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["nightly", *sys.argv[1:]]))

"""The whole path on generated data.

python pipelines/demo.py
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["demo", *sys.argv[1:]]))

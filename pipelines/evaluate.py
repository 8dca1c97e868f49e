"""Measure a saved model on its test part.

python pipelines/evaluate.py models:/ml-1m-top-n@champion
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))

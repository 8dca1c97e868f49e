"""Set the alias champion on a registered version.

python pipelines/promote.py ml-1m-top-n
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["promote", *sys.argv[1:]]))

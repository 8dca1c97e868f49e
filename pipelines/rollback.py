"""Give the alias champion back to the version that held it before.

python pipelines/rollback.py ml-1m-top-n
"""

import sys

from recsys.cli import main

if __name__ == "__main__":
    sys.exit(main(["rollback", *sys.argv[1:]]))

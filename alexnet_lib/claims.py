"""`python -m alexnet_lib.claims` prints the ledger of claims; `--help` lists what else it does. See `ledger.claims`."""

import sys

from .ledger.claims import claims, main

__all__ = ["claims", "main"]

if __name__ == "__main__":
    sys.exit(main())

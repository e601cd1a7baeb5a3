"""`python -m alexnet_lib.claims` prints the ledger of claims; `--help` lists what else it does. See `ledger.claims`."""

import sys
from types import ModuleType

from .ledger.claims import claims, main

__all__ = ["claims", "main"]


class _Ledger(ModuleType):
    """`alexnet_lib.claims()` is the ledger also where this module was imported before, and took the function's name."""

    def __call__(self, *arguments):
        return claims(*arguments)


sys.modules[__name__].__class__ = _Ledger

if __name__ == "__main__":
    sys.exit(main())

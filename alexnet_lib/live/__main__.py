"""`python -m alexnet_lib.live RUN [FILE]`; see `live.page`."""

from .page import main

if __name__ == "__main__":
    main()

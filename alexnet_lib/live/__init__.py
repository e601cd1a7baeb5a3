"""The net of a finished run in a page: it looks at pictures, and what the paper adds can be touched."""

from .. import lazily

NAMES = {"page": "live main"}
__getattr__, __dir__, __all__ = lazily(__name__, NAMES)

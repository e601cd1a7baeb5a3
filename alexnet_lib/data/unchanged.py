"""§2, are the files that a store was made from still the ones in its source?

Listing a million files each time that a store is opened would take minutes. So the times at which the folders of the
source were last changed are kept beside the store: as long as they are the same, nothing was added to the folders or
taken away. Where they are not, as in a copy of the source, its files are listed and compared with the store's.
"""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from .preparation import listing_hash
from .sources import list_files

FRESH = 2e9  # nanoseconds in which a folder may change twice and have one time


def require_unchanged(store, source: Path, part: str | None = None) -> None:
    """Refuse a `dataset.Store` whose source has changed since. A source that is empty or gone says nothing.

    part: the part of the source's files that it was made from, as in `list_files`.

    Raises:
        ValueError: names a file that is new or missing, and how to go on.
    """
    listing, seen = store.meta.get("listing"), store.folder.with_name(f".{store.folder.name}.source.json")
    if listing is None or _is_as_seen(seen, listing):
        return
    folders = _times(Path(at) for at, *_ in os.walk(source))  # before the files, lest a change between be missed
    try:
        files = list_files(source, part)[1]
    except (ValueError, FileNotFoundError):  # no classes left
        return
    if not files:
        return
    if listing_hash(files, store.size, store.meta.get("form", "raw")) != listing:
        now, then = {f.name for f in files}, {*store.index["file"], *(r["file"] for r in store.meta["rejected"])}
        changed = [*(f"{name} is new" for name in sorted(now - then)), *(f"{n} is gone" for n in sorted(then - now))]
        raise ValueError(
            f"{store.folder} was made when other files were in {source}: {store.meta['files']:,} then, {len(files):,} "
            f"now, and {changed[0] if changed else 'some of another size'}. Delete {store.folder.parent} and they are "
            f'prepared anew; to go on with the pictures of then, delete the line "listing" in the store\'s meta.json'
        )
    if max(folders.values()) < time.time_ns() - FRESH:
        with suppress(OSError):  # read-only, or full: the next time takes as long as this
            seen.write_text(json.dumps({"listing": listing, "folders": folders}), encoding="utf-8")


def _is_as_seen(seen: Path, listing: str) -> bool:
    try:
        known = json.loads(seen.read_bytes())
        return known["listing"] == listing and known["folders"] == _times(map(Path, known["folders"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return False


def _times(folders) -> dict[str, int]:
    """When each folder was last changed."""
    return {str(folder): folder.stat().st_mtime_ns for folder in folders}

"""§2, preparation: JPEG files that end too soon, and how much of the picture is there nevertheless.

A baseline file goes from the top to the bottom: what it lacks is an area of one colour at the end. A progressive file
goes over the whole picture again and again, each scan finer than the one before: what it lacks is everywhere.
"""

import re

import numpy as np

TORN = 1 / 16  # of a picture that may be missing; some of ImageNet's lack a line or two
END = b"\xff\xd9"
# not the zero that follows a byte of data which looks like a marker, nor those that only mend a scan's errors
MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")
PROGRESSIVE, SCAN = (b"\xc2", b"\xca"), b"\xda"
COEFFICIENTS, NEVER_SENT = 64, 15


def with_end(data: bytes) -> bytes:
    """A JPEG that ends too soon, with an end: Pillow would take the zeros after it for what is missing."""
    kept = data.rstrip(b"\0")
    if len(kept) < len(data) and kept.endswith(b"\xff"):  # the zero after such a byte is part of it
        kept += b"\0"
    return kept + END


def require_enough(data: bytes, pixels: np.ndarray, progressive: bool) -> None:
    """
    Args:
        data: a JPEG that a strict decoder found torn, `with_end`.
        pixels: what a lenient decoder made of it, (H, W, 3).

    Raises:
        ValueError: more is missing than TORN of the picture, or of a progressive one anything but its end.
    """
    if progressive and (why := _lack(data)):
        raise ValueError(f"not a whole picture, but truncated: it is progressive, and {why}")
    if (blank := blank_end(pixels)) > TORN:
        raise ValueError(f"not a whole picture, but truncated: {blank:.0%} of it, at its end, are of one colour")


def blank_end(pixels: np.ndarray) -> float:
    """The share of the last rows, of (H, W, 3), that have the colour of the last pixel: what a torn JPEG ends in."""
    told = np.flatnonzero((pixels != pixels[-1, -1]).any((1, 2)))
    return 1 - (told[-1] + 1) / len(pixels) if len(told) else 1.0


def _lack(data: bytes) -> str:
    """What a progressive JPEG lacks besides its end, in words; "" where it lacks nothing."""
    from simplejpeg import decode_jpeg  # here, because a machine that only trains needs no decoder

    try:
        decode_jpeg(data)
    except ValueError as error:
        if "remature end" in str(error):
            return "part of a scan is missing"
    return "" if _has_all_scans(data) else "whole scans are missing"


def _has_all_scans(data: bytes) -> bool:
    """Whether a progressive JPEG's scans give every coefficient of each of its components down to the last bit."""
    bits_left, at = {}, len(END)  # by component: of each coefficient, how many of its lowest bits no scan has given
    while found := MARKER.search(data, at):
        kind, start = found[1], found.end()
        at = start + (0 if kind == END[1:] else int.from_bytes(data[start : start + 2], "big"))
        segment = data[start + 2 : at]
        if kind in PROGRESSIVE:
            bits_left = {segment[i]: [NEVER_SENT] * COEFFICIENTS for i in range(6, 6 + 3 * segment[5], 3)}
        elif kind == SCAN:
            first, last, bits = segment[-3:]
            for component in segment[1 : 1 + 2 * segment[0] : 2]:
                bits_left[component][first : last + 1] = [bits & 15] * (last + 1 - first)
    return not any(map(any, bits_left.values()))

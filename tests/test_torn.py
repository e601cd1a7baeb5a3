"""§2: a JPEG that ends too soon is a picture where nearly all of it is there, in whichever order its file goes."""

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_lib.data.preparation import decode
from tests.test_dataset import photograph, saved

MODES = ("RGB", "L", "CMYK")


def jpeg_of(mode, **options):
    return saved(photograph(0, 120, 90).convert(mode), "JPEG", quality=90, **options)


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.65, 0.97])
@pytest.mark.parametrize("mode", MODES)
def test_a_progressive_jpeg_that_lacks_more_than_its_end_is_no_picture(mode, kept):
    data = jpeg_of(mode, progressive=True)
    for end in (b"", bytes(100), b"\xff\xd9"):
        with pytest.raises(ValueError, match="truncated"):
            decode(data[: int(len(data) * kept)] + end)


@pytest.mark.parametrize("mode", MODES)
def test_nor_is_one_that_lacks_whole_scans(mode):
    """Its decoder doesn't complain once there is an end."""
    data = jpeg_of(mode, progressive=True)
    last = data.rindex(b"\xff\xda")  # a scan begins, behind its table
    table = data.rindex(b"\xff\xc4", 0, last)
    with pytest.raises(ValueError, match="truncated: it is progressive, and whole scans are missing"):
        decode(data[:table])


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", MODES)
def test_one_that_lacks_only_its_end_is_a_picture(mode, options):
    data = jpeg_of(mode, **options)
    whole = decode(data)
    for torn in (data[:-1], data[:-2], data[:-2] + bytes(512)):
        assert torch.equal(decode(torn), whole)


def test_the_zero_that_belongs_to_the_last_byte_is_kept():
    """A byte of 255 in a scan has a zero after it, which isn't padding."""
    random, found = np.random.default_rng(0), 0
    for _ in range(2000):
        data = saved(Image.fromarray(random.integers(0, 256, (8, 8), np.uint8)), "JPEG", progressive=True)
        if data[-4:] == b"\xff\0\xff\xd9":
            found += 1
            assert torch.equal(decode(data[:-2]), decode(data))
    assert found


@pytest.mark.parametrize("mode", MODES)
def test_a_baseline_jpeg_that_lacks_a_third_is_no_picture_in_any_colours(mode):
    data = jpeg_of(mode)
    with pytest.raises(ValueError, match="truncated: .* at its end, are of one colour"):
        decode(data[: len(data) * 2 // 3])

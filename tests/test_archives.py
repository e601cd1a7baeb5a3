"""Tar archives that are read in place, whatever their bytes say. Whole contests: test_ilsvrc.py."""

import gzip
import tarfile

import numpy as np
import pytest

from alexnet_lib.data import archives
from alexnet_lib.data.archives import list_place, read_texts
from tests.small_ilsvrc import member, picture, tar, train, wnids


def test_members_of_inner_archives_are_ranges_of_the_outer_file(tmp_path):
    (tmp_path / "x.tar").write_bytes(tar([*train(), ("flat.JPEG", b"flat")]))
    for _ in range(2):  # listed, then from the list
        files, refused = list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False)
        assert not refused and len(files) == 9
        contents = {file.name: file.read_bytes() for file in files}
        assert contents["flat.JPEG"] == b"flat" and contents[f"{wnids()[3]}/{wnids()[3]}_1.JPEG"] == picture(3, 1)
    assert [path.name for path in (tmp_path / "lists").iterdir()] == ["x.tar.json"]


def test_a_changed_archive_is_listed_anew(tmp_path):
    for pictures in (2, 3):
        (tmp_path / "x.tar").write_bytes(tar(train(pictures=pictures)))
        assert len(list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False)[0]) == 4 * pictures


@pytest.mark.parametrize("damage", ["{", "[]", "null"])
def test_a_damaged_list_is_made_anew(tmp_path, damage):
    (tmp_path / "x.tar").write_bytes(tar(train()))
    whole = list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False)
    (tmp_path / "lists" / "x.tar.json").write_text(damage)
    assert list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False) == whole


def test_a_list_with_another_digit_is_made_anew(tmp_path):
    """A picture would be read from another place."""
    (tmp_path / "x.tar").write_bytes(tar(train()))
    whole = list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False)
    path, place = tmp_path / "lists" / "x.tar.json", str(whole[0][0].offset)
    path.write_text(path.read_text().replace(f", {place}]", f", {place[::-1]}]"))
    assert list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False) == whole


@pytest.mark.parametrize("unpacked", [False, True])
def test_what_systems_leave_behind_is_no_picture(tmp_path, unpacked):
    """macOS packs a ._NAME beside each file that has attributes: it must not stand in for a missing picture."""
    names = ["a/._1.JPEG", "__MACOSX/a/1.JPEG", "a/.DS_Store", "a/1.JPEG"]
    (tmp_path / "x.tar").write_bytes(tar([(name, b"x") for name in names]))
    if unpacked:
        with tarfile.open(tmp_path / "x.tar") as whole:
            whole.extractall(tmp_path / "x", filter="data")
    files, refused = list_place(tmp_path / ("x" if unpacked else "x.tar"), tmp_path / "lists", progress=False)
    assert [file.name for file in files] == ["a/1.JPEG"]
    assert unpacked or {entry["reason"] for entry in refused} == {"a hidden or a system's file"} and len(refused) == 3


@pytest.mark.parametrize("kit", [False, True])
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_gigabytes_is_not_read(tmp_path, kit, kind):
    """Of which a sparse file, or a gzip, needs to hold nothing."""
    header = member("x", type=kind, size=2**31).tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "x").write_bytes(gzip.compress(header) if kit else header)
    with pytest.raises(ValueError, match="damaged or not a whole copy: a header of 2,147,483,648 bytes"):
        read_texts(tmp_path / "x", "data") if kit else list_place(tmp_path / "x", tmp_path, progress=False)


def pax(*headers, kind=tarfile.XHDTYPE):
    """A tar of PAX headers of one kind, and then a file."""
    parts = [tarfile.TarInfo._create_pax_generic_header(each, kind, "utf-8") for each in headers]
    return b"".join(parts) + tar([("a.JPEG", b"a")])


SPARSE = [{"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, {"GNU.sparse.map": "a,b"}, {"GNU.sparse.size": "x"}]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        *((pax(header), "(unpack|invalid literal)") for header in SPARSE),
        (pax({"comment": "x" * 2**21}), "a header of 2,097,664 bytes"),
        (pax(*[{str(i): "x" * 2**18} for i in range(5)], kind=tarfile.XGLTYPE), "several of more than 1,048,576"),
        (
            b"".join(pax({str(i): "x" * 2**18}, kind=tarfile.XGLTYPE)[: 2**18 + 2048] for i in range(5)),
            "4 long or many records that hold for all members",
        ),
        (pax({str(i): "" for i in range(1001)}, kind=tarfile.XGLTYPE), "1,001 long or many records"),
    ],
)
def test_records_of_a_header_that_are_wrong_or_far_too_many_are_refused(tmp_path, data, said):
    (tmp_path / "archive.tar").write_bytes(data)
    with pytest.raises(ValueError, match=rf"archive\.tar is damaged or not a whole copy: .*{said}"):
        list_place(tmp_path / "archive.tar", tmp_path, progress=False)


def test_a_kits_file_may_be_longer_than_a_header(tmp_path):
    (tmp_path / "kit").write_bytes(tar([("data/a", bytes(2**20 + 1))], compressed=True))
    assert len(read_texts(tmp_path / "kit", "data")["a"]) == 2**20 + 1


@pytest.mark.parametrize(("limit", "name"), [("LARGEST_TEXT", "data/b"), ("LARGEST_KIT", "c")])
def test_a_kit_that_unpacks_to_far_too_much_is_refused(tmp_path, monkeypatch, limit, name):
    monkeypatch.setattr(archives, limit, 5000)
    (tmp_path / "kit").write_bytes(tar([("data/a", bytes(2500)), (name, bytes(2600))], compressed=True))
    with pytest.raises(ValueError, match=f"more than a development kit holds, from '{name}' on"):
        read_texts(tmp_path / "kit", "data")


def test_a_member_of_negative_size_does_not_hang(tmp_path):
    header = bytearray(member("x.JPEG").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (-1024).to_bytes(12, "big", signed=True)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(tar([("a", b"a" * 600)])[:1536] + bytes(header) + bytes(1024))
    with pytest.raises(ValueError, match="negative size"):
        list_place(tmp_path / "x.tar", tmp_path, progress=False)


def test_random_damage_never_ends_in_anything_but_a_list_or_an_error(tmp_path):
    """What is listed lies within the archive, whatever the bytes say."""
    whole, random, errors = tar(train()), np.random.default_rng(0), 0
    for round in range(60):
        data = bytearray(whole)
        for _ in range(3):  # among the headers, where damage counts
            data[512 * int(random.integers(len(data) // 512)) + int(random.integers(160))] = int(random.integers(256))
        path = tmp_path / f"{round}.tar"
        path.write_bytes(data)
        try:
            files, _ = list_place(path, tmp_path / "lists", progress=False)
            assert all(min(file.offset, file.size) >= 0 and file.offset + file.size <= len(data) for file in files)
        except ValueError as error:
            errors += 1
            assert path.name in str(error)
    assert errors > 10


@pytest.mark.parametrize("hole", ["in the middle", "at the end"])
def test_an_archive_with_a_hole_of_zeros_is_not_whole(tmp_path, hole):
    """What an unfinished download leaves; a header of zeros would end the archive."""
    data = bytearray(tar([(f"x_{i}.JPEG", bytes([65 + i]) * 1000) for i in range(5)]))
    (tmp_path / "whole.tar").write_bytes(data)
    assert len(list_place(tmp_path / "whole.tar", tmp_path / "lists", progress=False)[0]) == 5
    data[3072:] = bytes(4 * 2**20) if hole == "at the end" else bytes(1536) + data[3072 + 1536 :]
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(ValueError, match="damaged or not a whole copy"):
        list_place(tmp_path / "x.tar", tmp_path / "lists", progress=False)

"""Tars: a damaged, hostile or odd one loses no row without a word."""

import gzip
import io
import tarfile
import tracemalloc
import zlib

import fsspec
import pytest

from damaged_tars import check_damage, cut, flipped, headers, read
from seed_hf.data.sources.source import open_source
from tiny_sources import noise, rows, write_tar


EXPECTED = [(row["id"], row["caption"], row["image"]) for row in rows(6)]
END = bytes(1024)


def tar_of(*files) -> bytes:
    """A tar of (name, content) without the blocks at the end; an entry may also be a `TarInfo`."""
    made = b""
    for entry in files:
        name, content = entry if isinstance(entry, tuple) else (entry, b"")
        member = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
        if isinstance(entry, tuple) and not member.size:
            member.size = len(content)
        made += member.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512)
    return made


def sample(number: int, image: str = "png", text: str = "txt") -> list[tuple[str, bytes]]:
    return [(f"id{number}.{image}", noise(number)), (f"id{number}.{text}", f"caption {number}".encode())]


def of_type(kind: bytes, name: str = "id0.png", size: int = 0, link: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.size, member.linkname = kind, size, link
    return member


def with_type(data: bytes | bytearray, kind: bytes) -> bytes:
    """The same header, of another type."""
    header = bytearray(data)
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    return bytes(header)


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def reasons(path, **columns) -> list[str]:
    return [entry["reason"] for entry in read(path, **columns)[1]]


# Damage: rows before it are read, and it is a bad row with file and place


def test_flips_and_cuts(tmp_path):
    """`tests/soak/test_damaged_tars.py` makes hundreds."""
    path = write_tar(tmp_path / "a.tar", rows(6))
    data = path.read_bytes()
    assert read(path) == (EXPECTED, [], 0)
    places = [place for header in headers(path) for place in header if place % 512 not in (154, 155)]
    end = headers(path)[-1].stop + 1024
    outcomes = set()
    for _, damaged in [*flipped(data, places, 20, seed=2), *cut(data[:end], 10, seed=3)]:
        outcomes.add(check_damage(write(path, damaged), EXPECTED))
    assert outcomes == {"named", "refused"}


def test_what_is_not_the_end_of_an_archive(tmp_path):
    two = tar_of(*sample(0), *sample(1))
    size = len(two)
    for data, place, words in (
        (two, size, "the two blocks of zeros at the end are missing"),
        (two + bytes(512), size, "cut off after one block of zeros"),
        (two + bytes(700), size, "cut off after one block of zeros"),
        (two + bytes(512) + tar_of(*sample(2)) + END, size, "other data after one block of zeros"),
        (two + END + tar_of(*sample(2)) + END, size + 1024, "data after the end of the archive, maybe another"),
        (two + END + bytes(700) + b"x", size + 1024 + 700, "data after the end of the archive"),
        (two + tar_of(*sample(2))[:300], size, "cut off inside a header"),
        (two[:-100], size - 100, "cut off after id1.txt"),
    ):
        used, bad, _ = read(write(tmp_path / "a.tar", data))
        assert used == EXPECTED[: len(used)] and len(used) >= 1
        (entry,) = bad
        assert entry["file"] == "a.tar" and f"at byte {place}" in entry["reason"], entry
        assert words in entry["reason"] and entry["reason"].endswith("nothing after it is read"), entry
    for padding in (0, 9 * 1024, 100):
        assert read(write(tmp_path / "a.tar", two + END + bytes(padding))) == (EXPECTED[:2], [], 0)


def test_damage_is_the_last_row_and_any_range_of_rows_knows_it(tmp_path):
    source = open_source(write(tmp_path / "a.tar", tar_of(*sample(0), *sample(1), *sample(2))))
    for start, stop in ((0, None), (2, None), (3, None), (1, 4), (2, 3), (4, None), (9, 12)):
        found = [(row.row, bool(row.rejection)) for row in source.rows(0, start, stop)]
        assert found == [(0, False), (1, False), (2, False), (3, True)][start:stop], (start, stop)


def test_a_damaged_tar_among_sound_ones(tmp_path):
    """It is a bad row wherever it is, also as the first of all; an empty tar is no damage."""
    write(tmp_path / "0.tar", b"")
    write(tmp_path / "1.tar", bytes(10_240))
    write(tmp_path / "2.tar", b"this is no tar" * 100)
    write(tmp_path / "3.tar", tar_of(*sample(0)) + END)
    write(tmp_path / "4.tar", tar_of(("id1.png", noise(1)))[:700])
    write(tmp_path / "5.tar", tar_of(*sample(1)) + END)
    used, bad, _ = read(tmp_path)
    assert used == EXPECTED[:2]
    assert [entry["file"] for entry in bad] == ["0.tar", "2.tar", "4.tar"]
    assert "at byte 0: the file is empty" in bad[0]["reason"] and "or no tar" in bad[1]["reason"]
    (tmp_path / "3.tar").unlink()
    (tmp_path / "5.tar").unlink()
    with pytest.raises(ValueError, match="0.tar: not an intact tar"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="1.tar: an empty tar"):
        open_source(tmp_path / "1.tar")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_damaged_compressed_tars(mode, tmp_path):
    data = write_tar(tmp_path / "a.tar", rows(6), mode=mode).read_bytes()
    assert read(tmp_path / "a.tar") == (EXPECTED, [], 0)
    for damaged in (data[: len(data) // 2], data[:-5], data[:20], data[:2000] + b"x" + data[2001:]):
        try:
            _, bad, _ = read(write(tmp_path / "a.tar", damaged))
            assert "at byte" in bad[-1]["reason"] and "of the unpacked archive" in bad[-1]["reason"]
        except ValueError as error:
            assert "a.tar: not an intact tar file (at byte" in str(error)
    with pytest.raises(ValueError, match="zstd, which is not read; unpack it"):
        open_source(write(tmp_path / "a.tar", b"\x28\xb5\x2f\xfd" + data))


def test_streams_are_as_strict(tmp_path):
    data, place = tar_of(*sample(0), *sample(1)), len(tar_of(sample(0)[0]))  # of the second header
    files = fsspec.filesystem("memory")
    for name, damaged, count in (
        ("a", data + END, 2),
        ("b", data, 2),
        ("c", data[: -1024 - 512], 1),
        ("d", data + END + data + END, 2),
        ("e", data[:place] + b"x" + data[place + 1 :], 1),
    ):
        files.pipe(f"/strict/{name}.tar", damaged)
        used, bad, _ = read(f"memory://strict/{name}.tar", captions=False)
        assert [row[2] for row in used] == [noise(0), noise(1)][:count] and len(bad) == (name != "a"), name
    with pytest.raises(FileNotFoundError):
        open_source("memory://strict/none.tar")


def test_opening_many_tars_reads_the_first(tmp_path, monkeypatch):
    opened = []

    def counted(path):
        opened.append(path)
        return open(path, "rb")

    monkeypatch.setattr("seed_hf.data.sources.tar_members.open_binary", counted)
    for number in range(5):
        write_tar(tmp_path / f"{number}.tar", rows(2))
    open_source(tmp_path)
    assert set(opened) == {str(tmp_path / "0.tar")}


# Hostile tars


def test_members_that_are_not_read(tmp_path):
    """Each is a bad row, and the sound ones around it are read."""
    sparse = bytearray(tar_of(of_type(tarfile.GNUTYPE_SPARSE, size=512)))
    sparse[483:495] = b"%011o " % (8_000_000_000)  # bytes when it is unpacked
    fields = tarfile.TarInfo.create_pax_global_header({"GNU.sparse.major": "1", "GNU.sparse.minor": "0"})
    caption = ("id0.txt", b"caption 0")
    for member, words in (
        (with_type(sparse, b"S") + bytes(512), "a sparse file"),
        (with_type(fields, b"x") + tar_of(("id0.png", noise(0))), "a sparse file"),
        (tar_of(of_type(tarfile.LNKTYPE, link="id1.png")), "a hard link"),
        (tar_of(of_type(tarfile.SYMTYPE, link="/etc/passwd")), "a symbolic link"),
        (tar_of(of_type(tarfile.CHRTYPE)), "a device"),
        (tar_of(of_type(tarfile.FIFOTYPE)), "a pipe"),
        (tar_of((of_type(b"Z"), b"content")), "of the unknown type"),
    ):
        write(tmp_path / "a.tar", member + tar_of(caption, *sample(1)) + END)
        used, bad, _ = read(tmp_path / "a.tar")
        assert used == EXPECTED[1:2]
        assert [(entry["id"], words in entry["reason"]) for entry in bad] == [("id0", True)], (words, bad)


def test_sizes_that_cannot_be_are_refused_before_reading(tmp_path):
    huge, files = 8 << 30, fsspec.filesystem("memory")
    absurd = tarfile.TarInfo.create_pax_global_header({"size": "9" * 30})
    negative = bytearray(tar_of(("id1.png", b"")))
    negative[124:136] = b"\xff" * 12
    tracemalloc.start()
    try:
        for member, words in (
            (tar_of(of_type(b"0", "id1.png", huge)), "more than the archive"),
            (tar_of(of_type(tarfile.GNUTYPE_LONGNAME, "long", huge)), "a name or pax header of"),
            (tar_of(of_type(tarfile.XHDTYPE, "pax", huge)), "a name or pax header of"),
            (with_type(absurd, b"x") + tar_of(("id1.png", noise(1))), "more than the archive"),
            (absurd + tar_of(("id1.png", noise(1))), "a global header"),
            (with_type(negative, b"0"), "more than the archive"),
            (tar_of((of_type(tarfile.GNUTYPE_LONGNAME, "long"), b"\x89PNG\0\0IHDR")), "a damaged long name"),
            (tar_of((of_type(tarfile.XHDTYPE, "pax"), b"99 path=id1.png\n")), "a damaged pax header"),
            (
                tar_of((of_type(tarfile.XHDTYPE, "pax"), b"16 path=id1.png\n")),
                "a damaged header",
            ),  # and no file follows
        ):
            data = tar_of(*sample(0)) + member + END
            used, (entry,), _ = read(write(tmp_path / "a.tar", data))
            assert used == EXPECTED[:1] and words in entry["reason"], (words, entry)
            files.pipe("/hostile/a.tar", data)
            used, bad, _ = read("memory://hostile/a.tar")
            assert used == EXPECTED[:1] and "not an intact tar" in bad[-1]["reason"], (words, bad)
        assert tracemalloc.get_traced_memory()[1] < 2e7
    finally:
        tracemalloc.stop()


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    """Gigabytes of zeros as one file or as many, in a few kilobytes."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(tar_of(*sample(0), of_type(b"0", "id1.png", 8 << 30))) + packer.flush(zlib.Z_FULL_FLUSH)
    (reason,) = reasons(write(tmp_path / "a.tar.gz", start))
    assert "at most 268435456 are unpacked" in reason

    monkeypatch.setattr("seed_hf.data.sources.tar_members.MAX_CONTENT", 1 << 20)
    many = tar_of(*sample(0)) + tar_of(("id1.bin", bytes(1 << 20))) * 20
    assert "a decompression bomb" in reasons(write(tmp_path / "a.tar.gz", gzip.compress(many)))[-1]

    monkeypatch.undo()
    path = tmp_path / "b.tar"
    with open(path, "wb") as file:  # not compressed, with a hole on the disk
        file.write(tar_of(*sample(0), of_type(b"0", "id1.png", 1 << 30)))
        file.seek(1 << 30, io.SEEK_CUR)
        file.write(tar_of(("id1.txt", b"a"), *sample(2)) + END)
    used, bad, _ = read(path)
    assert used == [EXPECTED[0], EXPECTED[2]] and "a file of 1073741824 bytes" in bad[0]["reason"]


# Odd names


def test_several_files_of_one_name(tmp_path):
    """No image and no caption is chosen by chance; the row is bad. Rows of one key that are apart are two rows."""
    a, b = noise(0), noise(1)
    for files in (
        [("a.png", a), ("a.txt", b"a"), ("a.png", b), ("a.txt", b"b")],
        [("a.PNG", a), ("a.png", b), ("a.txt", b"a")],
        [("a.png", a), ("a.TXT", b"a"), ("a.txt", b"b")],
        [("a.png", a), ("a.jpg", b), ("a.txt", b"a")],
        [("a.0.png", a), ("a.0.txt", b"a"), ("a.1.png", b), ("a.1.txt", b"b")],
        [("a.0.png", a), ("a.txt", b"a")],
        [("a.png", a), ("a.mask.png", b), ("a.txt", b"a")],
    ):
        used, bad, dropped = read(write(tmp_path / "a.tar", tar_of(*sample(0), *files, *sample(1)) + END))
        assert used == EXPECTED[:2] and not dropped, files
        assert [entry["id"] for entry in bad] == ["a"], files
    assert read(tmp_path / "a.tar", image_column="png")[0][1] == ("a", "a", a)
    apart = [*sample(0), *sample(1), *sample(0)]
    assert read(write(tmp_path / "a.tar", tar_of(*apart) + END))[0] == [EXPECTED[i] for i in (0, 1, 0)]


def test_a_sample_without_an_image(tmp_path):
    write(tmp_path / "a.tar", tar_of(*sample(0), ("id1.txt", b"a"), *sample(2)) + END)
    used, bad, _ = read(tmp_path / "a.tar")
    assert [row[0] for row in used] == ["id0", "id2"]
    assert bad == [{"file": "a.tar/id1", "id": "id1", "reason": "no image among the files of the sample (txt)"}]
    assert reasons(tmp_path / "a.tar", image_column="png") == [
        "no file of the sample has the ending that is read (png; it has txt)"
    ]


def test_names_without_an_ending_are_named(tmp_path, caplog):
    files = [*sample(0), ("sub/photo", noise(9)), (".id7.png", noise(9)), ("__index__", b""), ("LICENSE", b"")]
    assert read(write(tmp_path / "a.tar", tar_of(*files) + END)) == (EXPECTED[:1], [], 0)
    warned = {record.getMessage() for record in caplog.records}
    assert warned == {f"{tmp_path}/a.tar: files without an ending are not read, the first sub/photo."}


def test_names_that_make_no_samples_are_told_at_once(tmp_path):
    images, texts = ([pair[place] for pair in map(sample, range(6))] for place in (0, 1))
    advice = "Sort the archive by name"
    for files, words in (
        (images[:3] + texts[:3], "none of its first samples has both an image and a caption"),
        (images[:3] + texts[:3], advice),
        (images * 2 + texts * 2, "looks like a caption: png.*" + advice),
        (texts * 2 + images * 2, "looks like an image: txt.*" + advice),
        (
            [("v1.0.png", noise(0)), ("v1.0.txt", b"a"), ("v1.1.png", noise(1))],
            "image: 0.png, 0.txt, 1.png.*" + advice,
        ),
        ([("a.png", noise(0)), ("a.jpg", noise(1)), ("a.txt", b"a")], "several images in one sample.*image_column"),
        ([("a", noise(0)), ("b", noise(1))], "an empty tar"),
    ):
        with pytest.raises(ValueError, match=words):
            open_source(write(tmp_path / "a.tar", tar_of(*files) + END))

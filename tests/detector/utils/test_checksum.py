"""Checksums of files."""

from detector.utils.checksum import sha256_of


def test_the_checksum_is_the_published_sha256_of_abc(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")

    assert sha256_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_checksum_of_a_large_file_depends_on_its_last_byte(tmp_path):
    for name, last in (("a", b"\0"), ("b", b"\1")):
        (tmp_path / name).write_bytes(bytes(3_000_000) + last)

    assert sha256_of(tmp_path / "a") != sha256_of(tmp_path / "b")

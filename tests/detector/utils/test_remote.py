import sys
from pathlib import Path

import pytest
from small_recordings import NAMES, config, files_in, make_recording

from detector.data.builder.dataset import build_dataset
from detector.utils.remote import Address, find_places, to_place


def test_places_that_users_name():
    assert to_place("a/b.raw") == Path("a/b.raw")
    assert to_place("file:///a/b.raw") == Path("/a/b.raw")
    address = to_place("s3://bucket/train/b_td.dat/")
    assert address == Address("s3://bucket/train/b_td.dat")
    assert (address.name, address.stem, str(address.parent)) == ("b_td.dat", "b_td", "s3://bucket/train")
    assert str(address.parent / "x.h5") == "s3://bucket/train/x.h5"


def test_an_address_may_hold_a_pattern(memory):
    for name in ("train/a.raw", "train/b.npy", "val/c.raw"):
        memory.pipe(f"/set/{name}", b"")
    assert [place.name for place in find_places("memory://set/*/*.raw")] == ["a.raw", "c.raw"]
    assert find_places("memory://set/none.raw") == [Address("memory://set/none.raw")]
    with pytest.raises(FileNotFoundError, match=r"memory://set/\*.dat: no file matches"):
        find_places("memory://set/*.dat")


def test_what_reads_an_address_is_named_if_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ValueError, match="s3://bucket/a.raw: Install s3fs .* pip install s3fs"):
        Address("s3://bucket/a.raw").is_file()
    with pytest.raises(ValueError, match="nowhere://a: Protocol not known: nowhere, allowed: a path or an address"):
        Address("nowhere://a").is_file()


def upload(memory, folder, address):
    memory.put(str(folder), address, recursive=True)


def test_a_dataset_at_an_address_equals_one_on_disk(tmp_path, memory):
    recording = make_recording(tmp_path / "set" / "train")
    (tmp_path / "set" / "label_map_dictionary.json").write_text('{"0": "walker", "3": "car"}')
    upload(memory, tmp_path / "set", "/")
    here = build_dataset([recording], tmp_path / "out", config(), progress=False)
    there = Address("memory://out")
    remote = Address("memory://set/train/street_td.dat")
    made = []
    put = Address.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Address, "put", lambda self, source: made.append(self.name) or put(self, source))
        for _ in range(2):
            assert build_dataset([remote], there, config(), progress=False) == there
    assert made.count("street.h5") == 1  # kept the second time
    assert memory.find("/out") == sorted(f"/out/{name}" for name in files_in(here))
    for name in files_in(here):
        assert memory.cat(f"/out/{name}") == (here / name).read_bytes()
    with pytest.raises(ValueError, match="memory://out/train/street.h5: made earlier from memory://set/train/street"):
        build_dataset([remote], there, config(), {"val": (0, 1)}, progress=False)


def test_errors_name_the_address(tmp_path, memory):
    recording = make_recording(tmp_path / "train")
    recording.write_bytes(b"% Version 2\n% Height 8\n% Width 12\n\x0c")
    upload(memory, tmp_path / "train", "/set/")
    remote = Address("memory://set/train/street_td.dat")
    with pytest.raises(ValueError, match="^memory://set/train/street_td.dat: not a DAT or RAW recording"):
        build_dataset([remote], tmp_path / "out", config(), None, NAMES, progress=False)
    with pytest.raises(ValueError, match=r"^memory://set/train/none.raw: no such recording"):
        build_dataset([Address("memory://set/train/none.raw")], tmp_path / "out", config(), None, NAMES, progress=False)
    assert not (tmp_path / "out").exists()

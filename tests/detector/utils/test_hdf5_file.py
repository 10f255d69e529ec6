import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from detector.data.tensor_file import open_tensors, read_attributes
from detector.utils.hdf5_file import open_hdf5

FRAMES = np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4)
USES = [open_hdf5, open_tensors, read_attributes]

HOLD = """
import sys, time, h5py
with h5py.File(sys.argv[1], "r+") as file:
    file.attrs["open"] = 1
    file.flush()
    print("open", flush=True)
    sys.stdin.read()
"""


def write(path, make=lambda file: file.create_dataset("data", data=FRAMES), **options):
    with h5py.File(path, "w", **options) as file:
        make(file)
    return path


def test_a_file_that_another_process_holds_open_for_writing(tmp_path):
    path = write(tmp_path / "a.h5")
    environment = {**os.environ, "HDF5_USE_FILE_LOCKING": "TRUE"}
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OSError, match="lock"), h5py.File(path, "r", locking=True):
            pass
        out = np.empty_like(FRAMES)
        reader = open_tensors(path)
        reader.read(0, out)
        reader.close()
        assert read_attributes(path)[0] == FRAMES.shape
        other.stdin.close()
    assert np.array_equal(out, FRAMES)


def virtual(source, name):
    def make(file):
        file["own"] = FRAMES
        layout = h5py.VirtualLayout(FRAMES.shape, "u1")
        layout[:] = h5py.VirtualSource(str(source), name, shape=FRAMES.shape)
        file.create_virtual_dataset("data", layout)

    return make


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", ["link", "link in a group", "external", "virtual", "virtual latest"])
def test_what_leads_out_is_refused_in_one_line(tmp_path, use, kind):
    other = write(tmp_path / "other.h5")
    link = h5py.ExternalLink(str(other), "data")
    makes = {
        "link": lambda file: file.__setitem__("data", link),
        "link in a group": lambda file: (file.create_dataset("data", data=FRAMES), file.__setitem__("a/b", link)),
        "external": lambda file: file.create_dataset("data", FRAMES.shape, "u1", external=[(str(other), 0, 24)]),
        "virtual": virtual(other, "data"),
        "virtual latest": virtual(other, "data"),
    }
    write(tmp_path / "a.h5", makes[kind], libver="latest" if "latest" in kind else None)
    with pytest.raises(ValueError, match=r"a.h5: (data|a/b) is .* of another file, allowed: data in the file itself$"):
        use(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "make", [virtual(".", "own"), lambda file: file.update({"b": FRAMES, "data": h5py.SoftLink("/b")})]
)
def test_what_stays_in_the_file_is_allowed(tmp_path, make):
    with open_hdf5(write(tmp_path / "a.h5", make)) as file:
        assert np.array_equal(file["data"][:], FRAMES)


def test_the_bytes_of_a_file_that_is_elsewhere(tmp_path):
    with write(tmp_path / "a.h5").open("rb") as raw, open_hdf5("s3://x/a.h5", raw) as file:
        assert np.array_equal(file["data"][:], FRAMES)


@pytest.mark.parametrize("use", USES)
def test_damaged_files_in_one_line(tmp_path, use):
    whole = write(tmp_path / "a.h5").read_bytes()
    for content in (b"", b"no HDF5", whole[:500], whole[:100] + bytes(400) + whole[500:]):
        (tmp_path / "a.h5").write_bytes(content)
        with pytest.raises(ValueError, match="a.h5: ") as caught:
            use(tmp_path / "a.h5")
        assert "\n" not in str(caught.value)


def test_a_file_marked_as_open_for_writing(tmp_path):
    path = write(tmp_path / "a.h5", libver="latest")
    content = bytearray(path.read_bytes())
    content[11] = 1  # consistency flags of the superblock
    path.write_bytes(content)
    with pytest.raises(ValueError, match="a.h5: not a complete HDF5 file: .*"):
        open_hdf5(path)

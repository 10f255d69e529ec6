import os
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from small_recordings import NAMES, config, files_in, make_events, make_labels, make_recording

from detector.data.builder import recording as build_recording
from detector.data.builder.dataset import build_dataset
from detector.labels import save_labels
from detector.utils.atomic_write import atomic_write

CUTS = {"train": (0, 1), "val": (1, 2)}

KILLED = """
import os, signal, sys
from pathlib import Path
from small_recordings import NAMES, config
from detector.data.builder.dataset import build_dataset
from detector.data.builder import recording as unit

made = []
frames = unit._frames

def fatal(piece):
    for part in frames(piece):
        made.append(part)
        if len(made) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        yield part

unit._frames = fatal
recordings = [Path(name) for name in sys.argv[2:]]
build_dataset(recordings, Path(sys.argv[1]), config(), None, NAMES, progress=False)
"""


def contents(folder):
    return {name: (folder / name).read_bytes() for name in files_in(folder)}


def test_killed_and_started_again_it_ends_as_if_undisturbed(tmp_path):
    recordings = [make_recording(tmp_path / "train", name, make_events(count=900)) for name in ("a.raw", "b.raw")]
    build_dataset(recordings, tmp_path / "whole", config(), None, NAMES, progress=False)
    output = tmp_path / "killed"
    paths = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", KILLED, str(output), *map(str, recordings)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = files_in(output)
    assert left[:2] == ["train/a.h5", "train/a_bbox.npy"]  # three readings of 8 frames, then two of the next file
    assert len(left) == 3
    assert left[2].startswith("train/b.h5.") and left[2].endswith(".part")
    build_dataset(recordings, output, config(), None, NAMES, progress=False)
    assert contents(output) == contents(tmp_path / "whole")


def test_what_another_process_is_writing_stays(tmp_path):
    recording = make_recording(tmp_path / "train")
    with atomic_write(tmp_path / "out" / "train" / "street.h5") as part:
        part.write_bytes(b"half")
        build_dataset([recording], tmp_path / "out", config(), None, NAMES, progress=False)
        assert part.read_bytes() == b"half"
        assert len(files_in(tmp_path / "out")) == 4
    assert (tmp_path / "out" / "train" / "street.h5").read_bytes() == b"half"


def breaks(path, offset, value):
    content = bytearray(path.read_bytes())
    content[offset : offset + 8 * 12 : 8] = bytes([value]) * 12
    path.write_bytes(content)


def test_broken_recordings_are_left_out_when_somebody_listens(tmp_path):
    good = make_recording(tmp_path, "good_td.dat")
    short = make_recording(tmp_path, "short_td.dat")
    short.write_bytes(b"% Version 2\n% Height 8\n% Width 12\n\x0c")
    outside = make_recording(tmp_path, "outside_td.dat")
    breaks(outside, -8 * 1500 + 6, 0xFF)
    backwards = make_recording(tmp_path, "backwards_td.dat")
    breaks(backwards, -8 * 1500 + 2, 0x00)
    wrong = make_recording(tmp_path, "wrong_td.dat")
    wrong.write_bytes(b"nothing of the kind")
    empty = make_recording(tmp_path, "empty.raw", make_events()[:0])
    unlabelled = make_recording(tmp_path, "unlabelled_td.dat")
    (tmp_path / "unlabelled_bbox.npy").unlink()
    strange = make_recording(tmp_path, "strange_td.dat")
    save_labels(tmp_path / "strange_bbox.npy", make_labels([2_000_000], class_id=7))
    reasons = []
    recordings = [outside, short, good, backwards, wrong, empty, unlabelled, strange]
    output = tmp_path / "out"
    build_dataset(recordings, output, config(), CUTS, NAMES, progress=False, on_broken=reasons.append)
    assert files_in(output) == [
        "label_map_dictionary.json",
        "train/good_1200000_2200000.h5",
        "train/good_1200000_2200000_bbox.npy",
        "val/good_2200000_3200000.h5",
        "val/good_2200000_3200000_bbox.npy",
    ]
    found = {Path(reason.partition(":")[0]).name: reason for reason in reasons}
    assert len(reasons) == len(found) == 7
    assert "event type and size" in found["short_td.dat"]
    assert "12 of 3,000 events are faulty: 12 outside the sensor" in found["outside_td.dat"]
    assert "time falls from" in found["backwards_td.dat"]
    assert "not an event recording" in found["wrong_td.dat"]
    assert "no events" in found["empty.raw"]
    assert "no labels" in found["unlabelled_td.dat"]
    assert "class_id 7" in found["strange_bbox.npy"]


def test_nothing_but_broken_recordings_is_an_error(tmp_path):
    recordings = [make_recording(tmp_path / "train", name) for name in ("a_td.dat", "b_td.dat")]
    breaks(recordings[0], -8 * 1500 + 6, 0xFF)
    recordings[1].write_bytes(b"nothing of the kind")
    reasons = []
    with pytest.raises(ValueError, match="none of the 2 recordings can be used, the first: .*a_td.dat: 12 of 3,000"):
        build_dataset(recordings, tmp_path / "out", config(), None, NAMES, False, on_broken=reasons.append)
    assert len(reasons) == 2
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_no_broken_recording(tmp_path, monkeypatch):
    def full(part, labels):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build_recording, "save_labels", full)
    recordings = [make_recording(tmp_path / "train")]
    with pytest.raises(OSError, match="No space left"):
        build_dataset(recordings, tmp_path / "out", config(), None, NAMES, False, on_broken=[].append)
    assert not (tmp_path / "out").exists()


def test_recordings_that_do_not_tell_their_sensor(tmp_path):
    events = make_events()
    plain = make_recording(tmp_path / "a" / "train")
    table = tmp_path / "b" / "train" / "street.npy"
    make_recording(table.parent).unlink()
    np.save(table, events)
    build_dataset([plain], tmp_path / "plain", config(), None, NAMES, progress=False)
    with pytest.raises(ValueError, match="street.npy: .*sensor size"):
        build_dataset([table], tmp_path / "table", config(), None, NAMES, progress=False)
    build_dataset([table], tmp_path / "table", config(), None, NAMES, progress=False, sensor=(8, 12))
    found = h5py.File(tmp_path / "table" / "train" / "street.h5")["data"]
    assert found.attrs["event_input_height"] == 8
    assert np.array_equal(found[:], h5py.File(tmp_path / "plain" / "train" / "street.h5")["data"][:])

"""One recording after the other becomes tensor files, a few frames at a time."""

import hashlib
import json

import numpy as np
import pytest
from small_recordings import (
    DELTA_T,
    HEIGHT,
    NAMES,
    START,
    WIDTH,
    config,
    count,
    files_in,
    make_events,
    make_labels,
    make_recording,
    tensors,
)

from detector.data.builder import recording as build_recording
from detector.data.builder.dataset import build_dataset
from detector.data.builder.plan import Plan
from detector.data.builder.recording import Step, report_steps
from detector.data.builder.source import Source
from detector.labels import load_labels, save_labels
from detector.preprocess.representation import representation_of
from detector.utils.remote import Address


def steps(recording, output, data=None, cuts=None, sensor=(None, None)):
    return list(report_steps(Source(recording), Plan(output, data or config(), cuts, NAMES, sensor)))


def test_tensors_and_how_they_were_made(tmp_path):
    recording, cuts = make_recording(tmp_path / "in"), {"val": (0.5, 1.7)}
    assert steps(recording, tmp_path / "out", cuts=cuts)[-1] == Step(recording, finished=True)
    found, attributes = tensors(tmp_path / "out" / "val" / "street_1700000_2900000.h5")
    assert np.array_equal(found, count(make_events(), START + 500_000, 12))
    assert attributes.pop("sha256") == hashlib.sha256(recording.read_bytes()).hexdigest()
    assert attributes.pop("tool_version")
    assert json.loads(attributes.pop("preprocess_params")) == {"downsampling_factor": 0, "max_incr_per_pixel": 5.0}
    assert attributes == {
        **{"preprocess": "histo", "max_incr_per_pixel": 5.0, "divisor": 5.0, "delta_t": DELTA_T, "first_t": 1_700_000},
        **{"event_input_height": HEIGHT, "event_input_width": WIDTH},
    }
    labels = load_labels(tmp_path / "out" / "val" / "street_1700000_2900000_bbox.npy")
    assert labels["t"].tolist() == [2_000_000, 2_500_000]


def test_tables_are_read_again_if_the_order_of_their_columns_changes(tmp_path):
    table, events = tmp_path / "train" / "street.csv", make_events()
    make_recording(table.parent).unlink()
    events["x"] %= HEIGHT
    np.savetxt(table, np.stack([events[name] for name in "txyp"], axis=1), "%d", ",")
    target = tmp_path / "out" / "train" / "street.h5"
    for order, swapped in (("t,x,y,p", False), ("t,y,x,p", True), (None, False)):
        for frames in ([8, 8, 4], [20]):
            found = steps(table, tmp_path / "out", config(event_columns=order), sensor=(HEIGHT, WIDTH))
            assert [step.frames for step in found] == [*frames, 0], found
        data, attributes = tensors(target)
        assert attributes.get("event_columns") == order
        if swapped:
            data = np.pad(data[..., :HEIGHT].swapaxes(2, 3), [(0, 0)] * 3 + [(0, WIDTH - HEIGHT)])
        assert np.array_equal(data, count(events, START, 20))


def test_steps_tell_every_frame_and_the_end(tmp_path):
    recording = make_recording(tmp_path / "train")
    end = Step(recording, finished=True)
    assert steps(recording, tmp_path / "out") == [*(Step(recording, frames) for frames in (8, 8, 4)), end]
    assert steps(recording, tmp_path / "out") == [Step(recording, 20), end]  # kept
    cuts = {"train": (0, 0.9), "val": (1.1, 1.4)}
    made = [Step(recording, frames) for frames in (8, 1, 3)]
    assert steps(recording, tmp_path / "cut", cuts=cuts) == [*made, end]
    assert steps(recording, tmp_path / "cut", cuts=cuts) == [Step(recording, 9), Step(recording, 3), end]


def test_a_recording_that_breaks_loses_all_its_files(tmp_path, monkeypatch):
    recording, cuts = make_recording(tmp_path / "in"), {"train": (0, 0.9), "val": (1.1, 1.4)}
    make = build_recording._frames

    def breaks(piece):
        if piece.target.parent.name == "val":
            raise ValueError("it is\n broken")
        yield from make(piece)

    monkeypatch.setattr(build_recording, "_frames", breaks)
    *made, last = steps(recording, tmp_path / "out", cuts=cuts)
    assert made == [Step(recording, 8), Step(recording, 1)]
    assert last == Step(recording, broken="it is broken")
    assert files_in(tmp_path / "out") == []


def test_a_full_disk_is_no_broken_recording(tmp_path, monkeypatch):
    def full(part, labels):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build_recording, "save_labels", full)
    with pytest.raises(OSError, match="No space left"):
        steps(make_recording(tmp_path / "train"), tmp_path / "out")
    assert files_in(tmp_path / "out") == []


def test_faulty_events_are_in_the_last_step(tmp_path):
    recording = make_recording(tmp_path / "train")
    recording.write_bytes(recording.read_bytes()[:-3])
    *_, last = steps(recording, tmp_path / "out")
    assert last.finished and str(last.faults) == "1 cut off at the end of the file (dropped)"


def test_labels_at_an_address_are_counted_in_the_last_step(tmp_path):
    make_recording(tmp_path / "train", times=(START, START + 1, 2_000_000))
    recording = Address(f"file://{tmp_path}/train/street_td.dat")
    *made, last = steps(recording, tmp_path / "out")
    assert [step.frames for step in made] == [8, 8, 4] and all(step.labels is None for step in made)
    assert last.labels.source == f"file://{tmp_path}/train/street_bbox.npy"
    assert (last.labels.boxes, last.labels.kept) == (3, 2)


@pytest.mark.parametrize("name", ["diff", "timesurface", "multi_channel_timesurface", "event_cube", "stacked_histo"])
def test_every_preprocessing_makes_bytes(tmp_path, name):
    """Made 8 frames at a time they are what they would be at once."""
    recording, data = make_recording(tmp_path / "train"), config(preprocess=name)
    build_dataset([recording], tmp_path / "out", data, None, NAMES, progress=False)
    found, attributes = tensors(tmp_path / "out" / "train" / "street.h5")
    representation = representation_of(data)
    expected = representation.empty(20, representation.channels, HEIGHT, WIDTH)
    events = make_events()
    events["t"] -= START
    representation.fill(events, expected, 20 * DELTA_T)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    parameters = {"downsampling_factor": 0, **representation.parameters}
    assert json.loads(attributes["preprocess_params"]) == parameters


def test_finished_files_are_kept_while_nothing_changes(tmp_path, monkeypatch):
    recording = make_recording(tmp_path / "in" / "train")
    arguments = ([recording], tmp_path / "out")
    build_dataset(*arguments, config(), None, NAMES, progress=False)
    before, _ = tensors(tmp_path / "out" / "train" / "street.h5")
    made = []
    make = build_recording._frames
    monkeypatch.setattr(build_recording, "_frames", lambda *job: made.append(job[0].target.stem) or make(*job))
    build_dataset(*arguments, config(), None, NAMES, progress=False)
    assert made == []
    save_labels(tmp_path / "in" / "train" / "street_bbox.npy", make_labels([1_500_000]))
    build_dataset(*arguments, config(), None, NAMES, progress=False)
    assert made == []
    assert load_labels(tmp_path / "out" / "train" / "street_bbox.npy")["t"].tolist() == [1_500_000]
    build_dataset(*arguments, config(max_incr_per_pixel=2), None, NAMES, progress=False)
    assert made == ["street"]
    assert np.array_equal(tensors(tmp_path / "out" / "train" / "street.h5")[0], np.minimum(before, 2))
    make_recording(tmp_path / "in" / "train", events=make_events(count=50))
    build_dataset(*arguments, config(max_incr_per_pixel=2), None, NAMES, progress=False)
    assert made == ["street", "street"]
    (tmp_path / "out" / "train" / "street.h5").write_bytes(b"broken")
    build_dataset(*arguments, config(max_incr_per_pixel=2), None, NAMES, progress=False)
    assert tensors(tmp_path / "out" / "train" / "street.h5")[0].sum() == 50


def test_other_cuts_of_the_same_recording_are_not_mixed(tmp_path):
    recording = make_recording(tmp_path)
    build_dataset([recording], tmp_path / "out", config(), {"train": (0, 1)}, NAMES, progress=False)
    with pytest.raises(
        ValueError,
        match="train/street_1200000_2200000.h5: made earlier from .*street_td.dat with other cuts, re",
    ):
        build_dataset([recording], tmp_path / "out", config(), {"val": (0.5, 1.5)}, NAMES, progress=False)
    other = make_recording(tmp_path / "other", "street_td.dat", make_events(count=50))
    assert steps(other, tmp_path / "out", cuts={"val": (0.5, 1.5)})[-1].finished
    named = make_recording(tmp_path, "street_5_td.dat")  # the same events; its files are never named street_<start>_
    assert steps(named, tmp_path / "out", cuts={"val": (0.5, 1.5)})[-1].finished

import subprocess
import sys

import numpy as np
import pytest
from small_detector import export_small
from streams import SENSOR, blob_events, chunks_of

from detector.__main__ import main
from detector.events import open_events, write_dat
from detector.events.frames import Frames
from detector.inference.frames_file import read_frames
from detector.inference.predictor import Predictor
from detector.inference.recording import Summary, predict
from detector.labels import load_labels

SENSOR_SIZE = {"height": SENSOR[0], "width": SENSOR[1]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_small(tmp_path_factory.mktemp("exported"), delta_t=100_000)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("recordings") / "street_td.dat"
    write_dat(path, blob_events(), *SENSOR)
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_every_kind_of_output_in_one_pass(tmp_path, exported, recording):
    from PIL import Image

    predictor = Predictor(exported)
    with open_events(recording) as events:
        expected = np.concatenate(list(predictor(events)))
    folder = tmp_path / "new" / "folder"
    found = predict(
        recording, predictor, [folder / f"a{kind}" for kind in (".npy", ".csv", ".json", ".gif")], progress=False
    )
    assert (found.frames, found.boxes, found.recorded_s) == (20, expected.size, 2.0)
    assert names_in(folder) == ["a.csv", "a.csv.frames.json", "a.gif", "a.json", "a.npy", "a.npy.frames.json"]
    frames = Frames(first_t=1_200_000, delta_t=100_000, num_frames=20)
    assert {read_frames(folder / f"a{kind}") for kind in (".npy", ".csv", ".json")} == {frames}
    np.testing.assert_array_equal(load_labels(folder / "a.npy"), expected)
    assert len((folder / "a.csv").read_text().splitlines()) == 1 + expected.size
    with Image.open(folder / "a.gif") as video:
        assert (video.n_frames, video.size[0], video.info["duration"]) == (20, 640, 100)


def test_a_video_that_fails_does_not_take_the_boxes_with_it(tmp_path, exported, recording, monkeypatch, capsys):
    def broken(*args, **kwargs):
        raise MemoryError("too large")

    monkeypatch.setattr("detector.visualization.drawing.draw_detections", broken)
    found = predict(recording, Predictor(exported), [tmp_path / "a.gif", tmp_path / "a.npy"], progress=False)
    assert len(load_labels(tmp_path / "a.npy")) == found.boxes
    assert names_in(tmp_path) == ["a.npy", "a.npy.frames.json"]
    assert "a.gif was not drawn: MemoryError: too large" in capsys.readouterr().err
    with pytest.raises(MemoryError):
        predict(recording, Predictor(exported), [tmp_path / "b.gif"], progress=False)


def test_a_live_stream_is_written_as_the_recording(tmp_path, exported, recording):
    predictor = Predictor(exported, **SENSOR_SIZE)
    for name, source in (("a.npy", recording), ("b.npy", chunks_of(blob_events(), [1234]))):
        predict(source, predictor, [tmp_path / name], progress=False)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_speed_is_shown_on_a_terminal_only(exported, recording, capsys, monkeypatch):
    predict(recording, Predictor(exported), [])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    found = predict(recording, Predictor(exported), [])
    assert found.real_time_factor == pytest.approx(2.0 / found.seconds)
    progress = capsys.readouterr().err
    assert "20/20" in progress and "x real time" in progress
    assert Summary(20, 7, 2.0, 0.5).text() == "7 boxes in 20 frames, 2.0 s of recording in 0.5 s: 4.00 x real time"


@pytest.mark.parametrize("live", [False, True])
def test_nothing_to_detect_in(tmp_path, exported, live):
    write_dat(tmp_path / "empty.dat", blob_events()[:0], *SENSOR)
    source = iter([]) if live else tmp_path / "empty.dat"
    with pytest.raises(ValueError, match=f"{'events' if live else 'empty.dat'}: no events, allowed: at least one"):
        predict(source, Predictor(exported, **SENSOR_SIZE), [tmp_path / "out" / "a.npy"], progress=False)
    assert names_in(tmp_path / "out") == []


def test_a_stream_that_breaks_leaves_no_output(tmp_path, exported):
    events = blob_events()
    with pytest.raises(ValueError, match="time falls from 3150000 to 1234000 us"):
        predict([events, events], Predictor(exported, **SENSOR_SIZE), [tmp_path / "a.csv"], progress=False)
    assert names_in(tmp_path) == []


def test_outputs_are_checked_first(tmp_path, exported, recording):
    predictor, labels = Predictor(exported), recording.with_name("street_bbox.npy")
    labels.write_bytes(b"labels")
    for outputs, message in (
        (["a.avi"], "a.avi: unknown kind of output, allowed: names that end in .npy, .csv, .json, .gif, .mp4"),
        (["a.npy", "a.npy"], "a.npy: given twice as an output"),
        ([labels], "street_bbox.npy: the recording or its labels would be lost, allowed: another output"),
    ):
        with pytest.raises(ValueError, match=message):
            predict(recording, predictor, outputs, progress=False)
    with open_events(recording) as events, pytest.raises(ValueError, match="its labels would be lost"):
        predict(events, predictor, [labels], progress=False)
    assert labels.read_bytes() == b"labels"
    labels.unlink()
    assert predict(recording, predictor, [labels], progress=False).frames == 20


def test_command_line(tmp_path, exported, recording, capsys):
    arguments = ["predict", str(recording), "--model", str(exported / "model.ptjit"), "--output"]
    assert main([*arguments, str(tmp_path / "a.csv"), str(tmp_path / "a.npy"), "--score_thresh", "0.5"]) == 0
    output = capsys.readouterr().out
    assert " boxes in 20 frames, 2.0 s of recording in " in output
    assert output.splitlines()[-1] == f"written: {tmp_path}/a.csv {tmp_path}/a.npy"
    assert load_labels(tmp_path / "a.npy")["class_confidence"].min() > 0.5
    assert main([*arguments, str(tmp_path / "b.npy"), "--downsampling", "2"]) == 0


def test_recordings_that_do_not_tell_their_sensor(tmp_path, exported, recording):
    np.save(tmp_path / "events.npy", blob_events())
    arguments = ["predict", str(tmp_path / "events.npy"), "--model", str(exported), "--output", str(tmp_path / "a.npy")]
    assert main([*arguments, "--sensor_height", "96", "--sensor_width", "128"]) == 0
    predict(recording, Predictor(exported), [tmp_path / "b.npy"], progress=False)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recording": "nowhere.raw"}, "nowhere.raw"),
        ({"--model": "nowhere"}, "nowhere: no exported model, allowed: a model file with info_ssd_jit.json"),
        ({"--output": "a.txt"}, "a.txt: unknown kind of output"),
        ({"--score_thresh": "7"}, "score_thresh: got 7.0, allowed: a number from 0 to 1"),
        ({"recording": __file__}, "test_recording.py"),
    ],
)
def test_errors_of_the_user_are_one_line(tmp_path, monkeypatch, capsys, exported, recording, change, message):
    monkeypatch.chdir(tmp_path)
    values = {"recording": str(recording), "--model": str(exported), "--output": "a.npy", **change}
    assert main(["predict", values.pop("recording"), *(word for item in values.items() for word in item)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("detector: error: ") and message in error[0]
    assert names_in(tmp_path) == []


def test_it_starts_without_the_heavy_packages():
    heavy = "{'torchvision', 'ray', 'mlflow', 'pytorch_lightning', 'matplotlib', 'PIL'}"
    code = f"import sys, detector.__main__, detector.inference.recording; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_faulty_events_of_a_recording_are_counted_and_told(tmp_path, exported, recording, capsys):
    path = tmp_path / "a.dat"
    content = bytearray(recording.read_bytes())
    content[-8 * 500 + 6 : -8 * 496 + 6 : 8] = b"\xff" * 4  # y
    path.write_bytes(content[:-1])
    arguments = ["predict", str(path), "--model", str(exported), "--output", str(tmp_path / "a.csv")]
    assert main(arguments) == 0
    wanted = "faulty events: 4 outside the sensor (dropped), 1 cut off at the end of the file (dropped)"
    assert capsys.readouterr().out.splitlines()[0].endswith(wanted)
    assert main([*arguments, "--data.max_faulty_events", "0"]) == 2
    assert "a.dat: 5 of 19,999 events are faulty" in capsys.readouterr().err
    found = predict(recording, Predictor(exported), [], progress=False)
    assert found.faults.total == 0 and "faulty" not in found.text()

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from detector.config import Config
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import save_labels
from evforge.cli.main import main
from evforge.datasets.inspect import _samples, inspect


def test_faulty_events_are_counted_and_printed(tmp_path, capsys):
    path = tmp_path / "a_td.dat"
    write_dat(path, np.zeros(200, EventCD), 8, 12)
    content = bytearray(path.read_bytes())
    content[-8 * 50 + 6 : -8 * 47 + 6 : 8] = b"\xff" * 3  # y
    path.write_bytes(content)
    arguments = ["inspect", str(path), "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "  faulty events  3 outside the sensor (dropped)" in capsys.readouterr().out.splitlines()
    assert main([*arguments, "--data.max_faulty_events", "0"]) == 2
    assert "a_td.dat: 3 of 200 events are faulty" in capsys.readouterr().err
    main(["check", str(path)])
    assert "faulty events" in capsys.readouterr().out
    main(["check", str(path), "--data.max_faulty_events", "0"])
    assert "3 of 200 events are faulty" in capsys.readouterr().out


def test_labels_that_do_not_fit_are_counted_with_their_cause(tmp_path, write_recording, capsys):
    path = write_recording(tmp_path / "a_td.dat", start=3_000_000)
    rows = [(t, 5, 5, 40, 30, 0, t, 1) for t in range(50_000, 1_000_000, 50_000)]
    save_labels(tmp_path / "a_bbox.npy", np.array(rows, BBOX_dtype))
    assert main(["inspect", str(path), "--output", str(tmp_path / "out")]) == 0
    text = capsys.readouterr().out
    assert "labels: 0 of 19 boxes kept\n  19 boxes outside the recordings: 19 at or before their start, 0 after" in text
    assert "seem about 3.0 s earlier than the events" in text


def test_labels_elsewhere(tmp_path, write_recording, capsys):
    path = write_recording(tmp_path / "a_td.dat")
    given = tmp_path / "elsewhere" / "given.npy"
    given.parent.mkdir()
    (tmp_path / "a_bbox.npy").rename(given)
    arguments = ["--labels", str(given), "--output", str(tmp_path / "out")]
    assert main(["inspect", str(path), *arguments]) == 0
    assert "  labels         given.npy: 6 boxes at 3 labelled times, 2 each" in capsys.readouterr().out
    main(["check", str(path), *arguments])
    assert "recording without labels" not in capsys.readouterr().out
    main(["check", str(path)])
    assert "recording without labels: none beside it, allowed: a_bbox.npy, a.json, " in capsys.readouterr().out
    write_recording(tmp_path / "b_td.dat")
    for paths in ([str(tmp_path)], [str(path), str(tmp_path / "b_td.dat")]):
        for verb in ("inspect", "check"):
            assert main([verb, *paths, *arguments]) == 2
            assert "for 2 " in capsys.readouterr().err
    assert main(["inspect", str(path), "--labels", "none.npy"]) == 2
    assert "none.npy: no such label file" in capsys.readouterr().err


def colours(path):
    """Size of a picture and the number of its colours."""
    with Image.open(path) as image:
        return image.size, len(image.convert("RGB").getcolors(1 << 24))


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (0, []),
        (1, [0]),
        (5, [0, 1, 2, 3, 4]),
        (80, [5, 15, 25, 35, 45, 55, 65, 75]),  # from the middle of each eighth
    ],
)
@pytest.mark.parametrize("labelled", [False, True])
def test_samples_are_spread_evenly(monkeypatch, count, chosen, labelled):
    monkeypatch.setattr("evforge.datasets.inspect._load", lambda times, names: times)
    times = np.arange(count) * 10
    surveys = [
        SimpleNamespace(labels=SimpleNamespace(times=part) if labelled else None, sample_times=part)
        for part in (times[: count // 3], times[count // 3 :])
    ]
    found = _samples(surveys, {})
    assert [time for _, time in found] == [10 * index for index in chosen]
    assert all(time in survey.sample_times for survey, time in found)


def test_verb_prints_and_draws(dataset, tmp_path, capsys):
    output = tmp_path / "out"
    assert main(["inspect", str(dataset), "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert "labelled times" in text
    assert text.endswith(f"figures: {output}\nnext: evforge check {dataset}\n")
    assert sorted(path.name for path in output.iterdir()) == [
        "boxes.png",
        "event_rate.png",
        "first_boxes.png",
        "samples.png",
    ]
    for path in output.iterdir():
        size, count = colours(path)
        assert min(size) > 300
        assert count > 20


def test_several_paths_have_a_folder_each(dataset, tmp_path):
    paths = [str(dataset), str(dataset / "train" / "train0_td.dat")]
    assert inspect(paths, Config(), str(tmp_path / "out")) == [tmp_path / "out" / "street", tmp_path / "out/train0_td"]


def test_folders_are_named_after_what_was_inspected(dataset, tmp_path):
    (folder,) = inspect([str(dataset)], Config.load(None, {"train.storage": str(tmp_path / "runs")}))
    assert folder.parent == tmp_path / "runs"
    assert folder.name.startswith("inspect-street-2")


def test_files_that_cannot_be_read_are_left_out(dataset, tmp_path, capsys):
    (dataset / "train" / "train0_td.dat").write_bytes(b"% Height 60\nnonsense")
    inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert f"left out: {dataset / 'train' / 'train0_td.dat'}: " in capsys.readouterr().out
    assert main(["inspect", str(dataset / "train" / "train0_td.dat")]) == 2
    assert main(["inspect", str(tmp_path / "nowhere")]) == 2


def test_a_figure_that_fails_is_a_warning(dataset, tmp_path, monkeypatch, capsys):
    def broken(*args):
        raise RuntimeError("no fonts")

    monkeypatch.setattr("evforge.datasets.inspect.rate_figure", broken)
    (folder,) = inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert sorted(path.name for path in folder.iterdir()) == ["boxes.png", "first_boxes.png", "samples.png"]
    assert "event_rate.png was not drawn: RuntimeError: no fonts" in capsys.readouterr().err


def test_recordings_without_labels_have_no_picture_of_boxes(dataset, tmp_path):
    for path in dataset.rglob("*_bbox.npy"):
        path.unlink()
    (folder,) = inspect([str(dataset)], Config(), str(tmp_path / "out"))
    assert sorted(path.name for path in folder.iterdir()) == ["event_rate.png", "samples.png"]

import pytest
from small_recordings import DELTA_T, NAMES, config, files_in, make_events, make_recording

from detector.labels import load_labels
from evforge import EvForgeError
from evforge.cli.main import main
from evforge.cli.parser import parse
from evforge.cli.verbs import VERBS
from evforge.datasets.build import build, run_on_ray, worth_ray


def test_flags_may_be_written_with_dashes_and_some_take_no_value():
    for flag in ("--skip_broken", "--skip-broken"):
        values = parse("build", VERBS["build"], ["a-b.raw", flag, "--output", "out", "--sensor-height=8"])
        assert (values["skip_broken"], values["recordings"], values["sensor_height"]) == (True, ["a-b.raw"], 8)
    assert parse("build", VERBS["build"], ["a.raw", "--output", "out"])["skip_broken"] is False


def test_ray_is_for_many_or_large_recordings(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    paths = [tmp_path / "a.raw", tmp_path / "b.raw"]
    for path, size in zip(paths, (1, 10**9 - 1), strict=True):
        with path.open("wb") as file:
            file.truncate(size)
    assert worth_ray(paths)
    assert not worth_ray(paths[1:])
    paths[0].write_bytes(b"")
    assert not worth_ray(paths)
    monkeypatch.setenv("RAY_ADDRESS", "ray.example:6379")
    assert worth_ray(paths)
    assert not worth_ray(paths[:1])


def test_broken_recordings_are_listed_at_the_end(tmp_path, capsys):
    make_recording(tmp_path / "train", "good_td.dat")
    short = make_recording(tmp_path / "train", "short_td.dat")
    short.write_bytes(b"% Version 2\n% Height 8\n% Width 12\n\x0c")
    (tmp_path / "label_map_dictionary.json").write_text('{"3": "car"}')
    recordings = [str(path) for path in sorted(tmp_path.glob("train/*.dat"))]
    arguments = ["build", *recordings, "--output", f"file://{tmp_path}/out", f"--data.delta_t={DELTA_T}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"evforge: error: {short}: not a DAT or RAW recording")
    assert main([*arguments, "--skip-broken"]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(
        f"dataset: {tmp_path}/out\nnext: evforge train --data.dataset_path {tmp_path}/out --data.delta_t=100000"
    )
    first, second = output.err.splitlines()[-2:]
    assert first == "1 of 2 recordings skipped:"
    assert second.startswith(f"  {short}: not a DAT or RAW recording")
    assert files_in(tmp_path / "out")[1] == "train/good.h5"


def test_labels_that_are_not_kept_are_printed(tmp_path, capsys):
    make_recording(tmp_path / "train", times=(1_200_000, 1_300_000, 5_000_000))
    (tmp_path / "label_map_dictionary.json").write_text('{"3": "car"}')
    recording = str(tmp_path / "train" / "street_td.dat")
    arguments = ["build", recording, f"--data.delta_t={DELTA_T}", "--data.min_box_diag", "7", "--output"]
    assert main([*arguments, f"{tmp_path}/out"]) == 0
    error = capsys.readouterr().err
    assert "labels: 1 of 3 boxes kept" in error
    assert "  2 boxes outside the recordings: 1 at or before their start, 1 after their last frame\n" in error
    assert "  3 boxes under data.min_box_diag or data.min_box_side" in error
    assert main([*arguments, f"{tmp_path}/ms", "--label-time-unit", "ms"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "labels from 1200000000 to 5000000000 us, allowed: within the recording, 1200000 to 3200000 us" in error
    assert main([*arguments, f"{tmp_path}/shifted", "--label_offset", "1"]) == 0
    assert "labels: 2 of 3 boxes kept" in capsys.readouterr().err


def test_labels_elsewhere_are_those_of_a_single_recording(tmp_path):
    paths = [str(make_recording(tmp_path / "train", f"{name}.raw")) for name in "ab"]
    given = tmp_path / "given.npy"
    (tmp_path / "train" / "a_bbox.npy").unlink()
    (tmp_path / "train" / "b_bbox.npy").rename(given)
    options = {"label_map": NAMES, "labels": str(given)}
    build(paths[:1], str(tmp_path / "out"), config(), **options)
    assert load_labels(tmp_path / "out" / "train" / "a_bbox.npy").size == 3
    for recordings, number in ((paths, 2), ([], 0)):
        message = f"^--labels: got {given} for {number} recordings, allowed: a single recording$"
        with pytest.raises(ValueError, match=message):
            build(recordings, str(tmp_path / "none"), config(), **options)
    assert not (tmp_path / "none").exists()


def split_lines_in(text):
    return [line for line in text.splitlines() if line.startswith(("train: ", "val: ", "test: "))]


@pytest.mark.usefixtures("ray_head")
def test_tasks_make_what_one_process_makes(tmp_path, monkeypatch, capsys):
    recordings = [
        make_recording(tmp_path / "in", f"{name}.raw", make_events(count=count))
        for name, count in (("a", 900), ("b", 800), ("c", 700))
    ]
    broken = make_recording(tmp_path / "in", "broken_td.dat")
    content = bytearray(broken.read_bytes())
    content[-8 * 1500 + 6 : -8 * 1488 + 6 : 8] = b"\xff" * 12  # y of events in the middle
    broken.write_bytes(content)
    paths = [str(path) for path in (*recordings, broken)]
    options = (config(), {"train": (0, 1), "val": (1, 2)}, NAMES)
    build(paths, str(tmp_path / "serial"), *options, skip_broken=True)
    lines = split_lines_in(capsys.readouterr().err)
    assert lines == [
        "train: 3 tensor files, 30 frames, 6 labelled times, 6 boxes",
        "val: 3 tensor files, 30 frames, 3 labelled times, 3 boxes",
    ]
    ran = []
    monkeypatch.setattr("evforge.datasets.build.worth_ray", lambda places: True)
    monkeypatch.setattr("evforge.datasets.build.run_on_ray", lambda *job: ran.append(True) or run_on_ray(*job))
    build(paths, str(tmp_path / "tasks"), *options, skip_broken=True)
    assert ran == [True]
    assert split_lines_in(capsys.readouterr().err) == lines
    names = files_in(tmp_path / "serial")
    assert len(names) == 13
    assert files_in(tmp_path / "tasks") == names
    for name in names:
        assert (tmp_path / "tasks" / name).read_bytes() == (tmp_path / "serial" / name).read_bytes()
    with pytest.raises(ValueError, match="^/.*broken_td.dat: 12 of 3,000 events are faulty"):
        build(paths, str(tmp_path / "strict"), *options)
    assert not list(tmp_path.glob("strict/**/*.part"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "train").write_text("no folder")
    with pytest.raises(EvForgeError, match="^build: .*File exists"):
        build(paths[:3], str(tmp_path / "full"), *options)

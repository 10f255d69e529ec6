from pathlib import Path

import numpy as np

from detector.data.check.finding import Finding
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import FoundLabels, load_labels, save_labels
from evforge.cli.main import main
from evforge.datasets.check import check, findings_text, labels_text


def copy_labels(source, target, **changes):
    labels = load_labels(source)
    for name, value in changes.items():
        labels[name][0] = value
    save_labels(target, labels)


def test_exit_code_says_whether_there_are_errors(tiny_dataset, tmp_path, capsys):
    assert main(["check", str(tiny_dataset / "train")]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [f"labels in the format npy: {tiny_dataset}/train/rec{index}_bbox.npy" for index in range(4)]
    following = f"next: evforge inspect {tiny_dataset / 'train'}"
    assert lines == [*names, "no findings: labels and recordings fit together", following]
    folder = tmp_path / "train"
    folder.mkdir()
    (folder / "a.h5").symlink_to(tiny_dataset / "train" / "rec0.h5")
    (tmp_path / "label_map_dictionary.json").write_text('{"0": "block", "1": "tower"}')
    source = tiny_dataset / "train" / "rec0_bbox.npy"
    copy_labels(source, folder / "a_bbox.npy", x=-10)
    assert main(["check", str(tmp_path)]) == 0
    assert "\n\n0 error(s), 1 warning(s)\n" in capsys.readouterr().out
    copy_labels(source, folder / "a_bbox.npy", x=-1000)
    assert main(["check", str(tmp_path)]) == 1
    (labels, line, _, total, _, following) = capsys.readouterr().out.splitlines()
    assert labels == f"labels in the format npy: {folder / 'a_bbox.npy'}"
    assert line.startswith(f"error    {folder / 'a_bbox.npy'}: box outside the sensor: x -1000, y ")
    assert total == "1 error(s), 0 warning(s)" and following == f"next: evforge check {tmp_path}"


def test_what_cannot_be_checked_is_an_error_of_the_user(tmp_path, capsys):
    assert main(["check", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such recording, tensor file or dataset folder" in capsys.readouterr().err


def test_many_files_with_one_fault_are_cut_short():
    findings = [Finding("error", Path(f"{index:02}.raw"), "empty recording", "no events", "one") for index in range(13)]
    findings.append(Finding("warning", Path("data"), "label rates differ", "a", "b"))
    lines = findings_text(findings).splitlines()
    assert lines[0] == "error    00.raw: empty recording: no events, allowed: one"
    assert lines[9:12] == [
        "error    09.raw: empty recording: no events, allowed: one",
        "error    ... and 3 more files: empty recording",
        "warning  data: label rates differ: a, allowed: b",
    ]
    assert lines[-1] == "13 error(s), 1 warning(s)"
    assert findings_text(findings[:10]).splitlines()[9:] == [lines[9], "", "10 error(s), 0 warning(s)"]


def test_what_is_said_without_findings():
    assert findings_text([]) == "no findings: labels and recordings fit together"
    unknown = "no findings; whether the labels fit the events could not be determined in "
    assert findings_text([], 1) == f"{unknown}1 file"
    assert findings_text([], 3) == f"{unknown}3 files"
    finding = Finding("warning", Path("a"), "k", "f", "b")
    both = [f"{finding}", "whether the labels fit the events could not be determined in 3 files"]
    assert findings_text([finding], 3).splitlines() == [*both, "", "0 error(s), 1 warning(s)"]
    assert findings_text([finding]).splitlines() == [*both[:1], "", "0 error(s), 1 warning(s)"]


def test_label_files_are_listed_with_their_format():
    labels = [FoundLabels(Path(f"{index}.json"), "coco") for index in range(12)]
    lines = labels_text(labels).splitlines()
    assert lines[0] == "labels in the format coco: 0.json"
    assert lines[9:] == ["labels in the format coco: 9.json", "... and 2 more label files"]
    assert labels_text(labels[:10]).count("\n") == 9
    assert labels_text([]) == "no labels"


def write_polarity(folder, p):
    events = np.zeros(3000, EventCD)
    events["t"], events["x"], events["y"], events["p"] = np.arange(3000) * 1000, np.arange(3000) % 70, 5, p
    folder.mkdir()
    write_dat(folder / "a_td.dat", events, 60, 80)
    save_labels(folder / "a_bbox.npy", np.array([(500_000, 10, 4, 8, 12, 0, 1, 1.0)], BBOX_dtype))
    (folder / "label_map_dictionary.json").write_text('{"0": "car"}')


def test_figures_are_written_only_if_there_is_something_to_draw(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_polarity(tmp_path / "sound", np.arange(3000) % 2)
    write_polarity(tmp_path / "all_on", 1)
    assert check([str(tmp_path / "sound")]) == 0
    unknown = "no findings; whether the labels fit the events could not be determined in 1 file"
    assert capsys.readouterr().out.splitlines()[1:] == [unknown]
    assert not (tmp_path / "runs").exists()
    assert check([str(tmp_path / "all_on")]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    assert folder.name.startswith("check-all_on-")
    assert capsys.readouterr().out.endswith(f"\nfigures: {folder}\n")
    assert check(["all_on"], output="figures", storage="elsewhere") == 0
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["one_polarity-1-a.png"]
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, capsys):
    write_polarity(tmp_path / "all_on", 1)
    (tmp_path / "file").write_text("")
    assert check([str(tmp_path / "all_on")], output=str(tmp_path / "file" / "figures")) == 0
    captured = capsys.readouterr()
    assert "one polarity" in captured.out
    assert "warning: the set of figures of the findings was not drawn" in captured.err

import pytest

from detector.config.groups import DataConfig
from detector.config.label_timing import LabelTiming
from evforge.datasets.folders import expand_folders, find_files, find_recordings

DATA = DataConfig()


@pytest.fixture
def nested(tmp_path, write_recording):
    """A folder of two recordings, at two depths, beside other files and a hidden folder."""
    folder = tmp_path / "lab"
    recordings = [write_recording(folder / "b" / "night_td.dat"), write_recording(folder / "a" / "deep" / "day_td.dat")]
    write_recording(folder / ".trash" / "old_td.dat")
    (folder / "b" / "notes.txt").write_text("rain")
    return folder, sorted(recordings)


def test_recordings_are_found_at_any_depth_and_counted(nested, capsys):
    folder, recordings = nested
    assert find_recordings(folder) == recordings
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"{folder}: 2 recordings found\n")
    assert find_recordings(folder / "b") == recordings[1:]
    assert capsys.readouterr().err == f"{folder / 'b'}: 1 recording found\n"


def test_with_a_named_format_any_suffix_is_a_recording_except_those_of_other_files(nested):
    folder, recordings = nested
    (folder / "b" / "camera.bin").write_bytes(b"x")
    assert find_recordings(folder, DataConfig(event_format="DAT")) == [
        recordings[0],
        folder / "b" / "camera.bin",
        recordings[1],
    ]
    assert find_recordings(folder) == recordings


def test_a_folder_without_recordings_is_refused(tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(ValueError, match=r"no recording in it or in its subfolders, allowed: .*files that end in "):
        find_recordings(tmp_path)
    with pytest.raises(ValueError, match=r"allowed: a folder with recordings \(files in the format DAT\)$"):
        find_recordings(tmp_path, DataConfig(event_format="DAT"))


def test_only_folders_without_own_files_are_replaced(nested, dataset):
    folder, recordings = nested
    paths = [str(dataset), str(folder), str(recordings[1]), "missing_td.dat"]
    assert expand_folders(paths, DATA) == [str(dataset), *map(str, recordings), str(recordings[1]), "missing_td.dat"]


def test_files_of_a_dataset_or_else_of_the_subfolders(nested, dataset):
    folder, recordings = nested
    found = find_files(folder, (None, None), LabelTiming(), DATA)
    assert [file.path for file in found] == recordings
    names = [file.path.name for file in find_files(dataset, (None, None), LabelTiming(), DATA)]
    assert names == ["train0_td.dat", "train1_td.dat", "test0_td.dat"]
    with pytest.raises(FileNotFoundError, match="missing: no such recording"):
        find_files(dataset / "missing", (None, None), LabelTiming(), DATA)

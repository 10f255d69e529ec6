import pytest
from small_detector import small_net

from detector import jitting_test
from detector.export.form import save_torchscript
from detector.export.ssd import SSD


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "model.ptjit"
    save_torchscript(SSD(small_net()), path)
    return path


def test_the_command_runs_every_case_and_returns_0(exported, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jitting_test", str(exported), "--height", "40", "--width", "56"])
    assert jitting_test._main() == 0
    for line, name in zip(capsys.readouterr().out.splitlines(), jitting_test.TESTCASES, strict=True):
        assert line.startswith(f"ok      {name}")


def test_a_failed_case_is_one_line_and_the_others_still_run(exported, monkeypatch, capsys):
    def fails(path, height, width):
        raise AssertionError(f"{height} x {width}\nis wrong")

    sizes = []
    monkeypatch.setattr(jitting_test, "TESTCASES", {"a": fails, "b": lambda path, *size: sizes.append(size)})
    monkeypatch.setattr("sys.argv", ["jitting_test", str(exported)])
    assert jitting_test._main() == 1
    assert capsys.readouterr().out == "FAILED  a: 120 x 160 is wrong\nok      b\n"
    assert sizes == [(120, 160)]


def test_a_file_that_is_no_model_fails_all_cases(tmp_path, monkeypatch, capsys):
    (tmp_path / "info.json").write_text("{}")
    monkeypatch.setattr("sys.argv", ["jitting_test", str(tmp_path / "info.json")])
    assert jitting_test._main() == 1
    assert capsys.readouterr().out.startswith(f"FAILED  {next(iter(jitting_test.TESTCASES))}: ")

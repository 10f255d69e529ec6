import pytest

from detector.utils.decoration import decoration


def test_what_cannot_be_drawn_is_one_line_on_stderr(capsys):
    with decoration("a.png"):
        raise OSError("no space\n  left")
    assert capsys.readouterr().err == "warning: a.png was not drawn: OSError: no space left\n"


def test_an_interrupt_is_no_failure_to_draw():
    with pytest.raises(KeyboardInterrupt), decoration("a.png"):
        raise KeyboardInterrupt

from detector.utils.precision import resolve_precision


def test_precision_is_what_was_asked_for():
    assert resolve_precision("32-true") == "32-true"
    assert resolve_precision("auto") in ("32-true", "bf16-mixed")

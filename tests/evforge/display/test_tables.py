from evforge.display.tables import text_table


def test_numbers_are_right_aligned_and_lines_carry_no_trailing_blanks():
    lines = [("name", "boxes", "note"), ("car", "7", ""), ("pedestrian", "1200", "few")]
    assert text_table(lines, numbers=[1]) == (
        "name        boxes  note\n----------  -----  ----\ncar             7\npedestrian   1200  few"
    )

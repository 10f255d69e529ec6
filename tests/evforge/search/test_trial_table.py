from evforge.search.trial_table import TrialRow, trial_table


def test_table_is_aligned_and_ranked():
    rows = [
        TrialRow("trial_1", "PSEE_ANCHORS", 0.5, 0.3, 16, 0.25, 0.625, 81.4, "FINISHED"),
        TrialRow("trial_2", "COCO_ANCHORS", 0.45, 0.4, 8, None, None, None, "FAILED"),
        TrialRow("trial_3", "a2", 0.6, 0.3, 24, 0.5, 0.75, 100.0, "FINISHED"),
    ]
    assert trial_table(rows) == (
        "trial    anchors       fg/bg IoU  width    mAP  mAP50  seconds  status\n"
        "-------  ------------  ---------  -----  -----  -----  -------  --------\n"
        "trial_3  a2            0.6/0.3       24  0.500  0.750      100  FINISHED\n"
        "trial_1  PSEE_ANCHORS  0.5/0.3       16  0.250  0.625       81  FINISHED\n"
        "trial_2  COCO_ANCHORS  0.45/0.4       8      -      -        -  FAILED"
    )


def test_trial_that_measured_nothing_stands_below_one_that_measured_zero():
    none = TrialRow("none", "a", 0.5, 0.3, 8, None, None, None, "FAILED")
    zero = TrialRow("zero", "a", 0.5, 0.3, 8, 0.0, 0.0, 1.0, "FINISHED")
    assert [line.split()[0] for line in trial_table([none, zero]).splitlines()[2:]] == ["zero", "none"]

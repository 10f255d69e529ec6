import io

from rich.console import Console

from evforge.search.trial_table import TrialRow, result_text, sample_text, trial_screen, trial_table

ANCHORS = [[0.5, 1.0], [1.0, 2.0]]


def row(name, score, status="finished", sample=None, **metrics):
    return TrialRow(
        name, sample or {"optim.lr": 0.00123456}, {"val_mean_ap": score, **metrics}, score, "3/4", 81.4, status
    )


def screen(rows, height, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(trial_screen(rows, "the summary", width, height))
    return console.file.getvalue().splitlines()


def test_table_is_aligned_and_ranked():
    rows = [
        row("trial-1", 0.25, sample={"anchors.anchor_list": ANCHORS, "model.feature_base": 16}),
        row("trial-2", None, "failed", sample={"anchors.anchor_list": "COCO_ANCHORS", "model.feature_base": 8}),
        row("trial-3", 0.5, sample={"anchors.anchor_list": "PSEE_ANCHORS", "model.feature_base": 24}),
    ]
    assert trial_table(rows) == (
        "trial      anchor_list   feature_base  val_mean_ap  epoch  seconds  status\n"
        "---------  ------------  ------------  -----------  -----  -------  --------\n"
        "trial-3 *  PSEE_ANCHORS  24                 0.5000    3/4       81  finished\n"
        "trial-1    0.5:1 1:2     16                 0.2500    3/4       81  finished\n"
        "trial-2    COCO_ANCHORS  8                       -    3/4       81  failed"
    )


def test_a_smaller_metric_is_better_if_the_score_is_negated():
    rows = [
        TrialRow(name, {}, {"train_loss": loss}, -loss, "1/1", 1.0, "finished") for name, loss in [("a", 3), ("b", 2)]
    ]
    assert [line.split()[0] for line in trial_table(rows).splitlines()[2:]] == ["b", "a"]


def test_a_trial_without_a_metric_is_below_one_with_zero():
    lines = trial_table([row("none", None, "failed"), row("zero", 0.0)]).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["zero", "none"]


def test_no_trial_is_best_without_a_metric():
    assert "*" not in trial_table([row("trial-1", None, "running")])


def test_a_setting_that_only_some_trials_have():
    lines = trial_table([row("a", 0.5), row("b", 0.25, sample={"train.seed": 7})]).splitlines()
    assert lines[0].split()[:3] == ["trial", "lr", "seed"]
    assert [line.split()[-6:-4] for line in lines[2:]] == [["0.00123", "-"], ["-", "7"]]


def test_the_screen_has_the_best_and_the_newest_trials_and_counts_the_others():
    scores = [0.9, 0.1, 0.2, 0.8, 0.3, 0.4]
    rows = [row(f"trial-{index}", score) for index, score in enumerate(scores, 1)]
    rows += [row("trial-7", 0.05, "stopped early"), row("trial-8", None, "running")]
    lines = screen(rows, height=12)
    assert len(lines) < 12
    assert lines[0].rstrip() == "the summary"
    names = [line.split()[0] for line in lines if "trial-" in line]
    assert names == ["trial-1", "trial-4", "trial-7", "trial-8"]
    assert lines[-1].rstrip() == "and 4 more: 4 finished"


def test_half_of_an_odd_number_of_rows_are_the_newest_trials():
    rows = [row(f"trial-{index}", score) for index, score in enumerate([0.9, 0.8, 0.7, 0.1, 0.2, 0.3], 1)]
    lines = screen(rows, height=13)
    assert [line.split()[0] for line in lines if "trial-" in line] == [
        "trial-1",
        "trial-2",
        "trial-6",
        "trial-5",
        "trial-4",
    ]
    assert lines[-1].rstrip() == "and 1 more: 1 finished"
    assert [sum("trial-" in line for line in screen(rows, height)) for height in (1, 10, 11, 14)] == [2, 2, 3, 6]
    assert "more:" not in "".join(screen(rows, height=14))


def test_trials_of_equal_scores_keep_their_order():
    lines = trial_table([row("a", 0.5), row("b", 0.5), row("c", 0.75)]).splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["c", "a", "b"]
    assert [line.split()[1] == "*" for line in lines[2:]] == [True, False, False]


def test_before_the_first_trial_there_is_only_the_summary():
    assert [line.rstrip() for line in screen([], height=24)] == ["the summary"]


def test_only_the_settings_become_narrower_on_a_narrow_terminal():
    sample = {f"optim.a_setting_with_a_long_name_{index}": "value" for index in range(3)}
    text = "\n".join(screen([row("trial-1", 0.5, "stopped early", sample)], height=24, width=80))
    assert "…" in text
    assert [part in text for part in ("trial-1 *", "val_mean_ap", "0.5000", "3/4", "stopped", "a_s")] == [True] * 6


def test_a_narrow_terminal_shows_no_durations():
    assert ["81" in "".join(screen([row("trial-1", 0.5)], 24, width)) for width in (99, 100)] == [False, True]


def test_all_trials_are_shown_if_there_is_room():
    lines = screen([row("trial-1", 0.5), row("trial-2", 0.25)], height=24)
    assert not any("more:" in line for line in lines)
    assert ["*" in line for line in lines if "trial-" in line] == [True, False]


def test_long_values_are_shortened():
    text = sample_text({"anchors.anchor_list": ANCHORS * 5, "model.feature_base": 8})
    assert text == "anchor_list 0.5:1 1:2… 0.5:1 1:2, feature_base 8"


def test_the_result_of_a_trial():
    text = result_text(row("trial-1", 0.25, "stopped early", latency_ms=1.5))
    assert text == "trial-1 stopped early, epoch 3/4  val_mean_ap 0.2500  latency_ms 1.5000  81 s"

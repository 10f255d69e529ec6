from detector.config import Config
from evforge.registry.model_card import model_card

PARTS = [
    {"start": None, "stop": 10.0, "boxes": 1200, "ap": 0.05, "ap50": 0.1, "recall": 0.2},
    {"start": 10.0, "stop": 30.0, "boxes": 800, "ap": 0.5, "ap50": 0.9, "recall": 0.875},
    {"start": 30.0, "stop": None, "boxes": 0, "ap": None, "ap50": None, "recall": None},
]
OF_CLASS = {"ap/car": 0.7, "ap/two wheeler": 0.125, "ap/bus": None}
EVALUATION = {
    "split": "test",
    "data_fingerprint": "da7a",
    "classes": ["car", "two wheeler", "bus"],
    "protocol": {"skip_us": 500_000, "min_box_diag": 30.0},
    "metrics": {"mean_ap": 0.41666, "mean_ap50": 0.75, "mean_ap_small": 0.25, "mean_ap_big": None} | OF_CLASS,
    "details": {"slices": {"speed": PARTS, "stream_age": PARTS[1:]}},
    "state_leak": {"passed": True},
}


def _card(**changes) -> list[str]:
    config = Config().with_overrides({"data.dataset_path": "datasets/street", "model.feature_base": 24})
    speed = {"median time": "12.5 ms, of 15 frames"}
    card = model_card("street", config, {**EVALUATION, **changes}, "0123abc", speed, "6 trials")
    return card.replace("&emsp;", "").splitlines()


def test_card_states_everything():
    lines = _card()
    for line in (
        "# street",
        "| mAP, IoU 0.50:0.95 | 0.4167 |",
        "| AP of small boxes, below 32 x 32 px | 0.2500 |",
        "| AP of big boxes, above 96 x 96 px | - |",
        "| two wheeler | 0.1250 |",
        "| bus | - |",
        "By speed of the box's centre:",
        "| px/s | boxes | AP | AP50 | recall |",
        "| below 10 | 1,200 | 0.050 | 0.100 | 0.200 |",
        "| min_box_diag | 30.0 |",
        "| dataset | datasets/street |",
        "| fingerprint of its test split | da7a |",
        "| frame | 50 ms, histo |",
        "| MLflow run | 0123abc |",
        "| median time | 12.5 ms, of 15 frames |",
        "6 trials",
        "  feature_base: 24",
        'model = mlflow.pyfunc.load_model("models:/street@champion")',
        "evforge predict RECORDING --model models:/street@champion --output boxes.npy video.mp4",
    ):
        assert line in lines
    assert not any(line.startswith("By time since the stream began") for line in lines)  # all boxes are in one slice


def test_failures_follow_from_the_metrics():
    lines = _card()
    first = lines.index("## Known failures") + 2
    assert lines[first : first + 5] == [
        "- two wheeler: AP 0.125, overall 0.417",
        "- speed of the box's centre, below 10 px/s: AP50 0.100, overall 0.750",
        "- bus: not in the data, so not measured",
        "- speed of the box's centre, from 30 px/s: not in the data, so not measured",
        "- time since the stream began, without state, from 30 s: not in the data, so not measured",
    ]
    assert "- the detections in a stream depend" not in "\n".join(lines)
    assert "- the detections in a stream depend" not in "\n".join(_card(state_leak={"passed": None}))
    assert "- the detections in a stream depend" in "\n".join(_card(state_leak={"passed": False}))


def test_a_weak_class_has_less_than_half_of_the_overall_value():
    parts = [{"start": 1.0, "stop": 2.0, "boxes": 9, "ap": 0.0, "ap50": value, "recall": 0.5} for value in (0.25, 0.2)]
    metrics = {"mean_ap": 0.5, "mean_ap50": 0.5, "ap/car": 0.25, "ap/two wheeler": 0.2499, "ap/bus": 1.0}
    lines = _card(metrics=metrics, details={"slices": {"speed": parts}})
    first = lines.index("## Known failures") + 2
    assert lines[first : first + 2] == [
        "- two wheeler: AP 0.250, overall 0.500",
        "- speed of the box's centre, 1 to 2 px/s: AP50 0.200, overall 0.500",
    ]
    assert lines[first + 2].startswith("- objects that do not move cause no events")
    assert lines[first + 3].startswith("- other sensors")
    assert lines.count("By speed of the box's centre:") == 1


def test_a_table_has_space_between_its_columns_and_no_bar_in_its_cells():
    config = Config().with_overrides({"data.dataset_path": "~/a|b", "data.delta_t": 12_500})
    text = model_card("street", config, EVALUATION, "0123abc", {"a|b": "c"})
    assert "| rule | &emsp;value |\n| --- | --- |\n| skip_us | &emsp;500000 |\n" in text
    assert "| dataset | &emsp;a/b |" in text and "| a/b | &emsp;c |" in text
    assert "| frame | &emsp;12.5 ms, histo |" in text


def test_a_model_of_a_single_training():
    config = Config()
    text = model_card("street", config, EVALUATION, "0123abc", {})
    assert "## Search\n\nNone: the model was trained with the settings below.\n" in text


def test_a_card_has_no_path_and_no_database_of_a_machine():
    local = {"data.dataset_path": "/srv/ada/street", "train.storage": "/data/runs", "train.pretrained": "/x/best.ckpt"}
    config = Config().with_overrides({**local, "track.tracking_uri": "sqlite:////srv/ada/mlflow.db"})
    text = model_card("street", config, EVALUATION, "0123abc", {})
    assert not any(path in text for path in ("/srv", "/data/runs", "/x/", "sqlite:////"))
    assert "| dataset | &emsp;street |" in text and "pretrained: best.ckpt" in text
    server = Config().with_overrides({"track.tracking_uri": "http://gpu-1:5000"})
    assert "http://gpu-1:5000" in model_card("street", server, EVALUATION, "0123abc", {})


def test_the_figure_and_four_lines_to_run_the_model_come_first():
    text = model_card("street", Config(), EVALUATION, "0123abc", {}, media="![Detections](x.png)")
    assert text.index("![Detections](x.png)") < text.index("## How to run it") < text.index("## Metrics")
    code = text.partition("```python\n")[2].partition("```")[0]
    assert len(code.splitlines()) == 4 and "models:/street@champion" in code
    compile(code, "card", "exec")

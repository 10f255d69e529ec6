from detector.data.label_map import class_names
from evforge.training.profiling import measure_rate, measure_speed


def test_a_step_is_measured(tiny_config):
    config = tiny_config.with_overrides({"data.classes": class_names(tiny_config.data)})
    assert measure_rate(config, threads=1, use_gpu=False) > 1


def test_speed(export):
    speed = measure_speed(export)
    assert speed["frame"] == "160 x 120, one stream, boxes included"
    assert float(speed["median time"].partition(" ms")[0]) > 0

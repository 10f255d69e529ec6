import pytest

from detector.config import Config


def test_leaf_names_are_unique_and_hparams_lose_nothing():
    config = Config().with_overrides({"anchors.anchor_list": [[1, 2], [0.5, 1]], "optim.lr": "1e-5"})
    leaves = [key.split(".")[1] for key in config.to_flat()]
    assert len(set(leaves)) == len(leaves)
    assert config.optim.lr == 1e-5
    assert Config.from_hparams(config.to_hparams()) == config


def test_yaml_round_trip_keeps_the_fingerprint(tmp_path):
    config = Config().with_overrides({"model.feature_base": 24, "anchors.anchor_list": [[1, 2]]})
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    loaded = Config.load(tmp_path / "c.yaml")
    assert loaded == config and loaded.fingerprint() == config.fingerprint()
    assert loaded.fingerprint() != Config().fingerprint()


def test_overrides_win_over_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("optim: {lr: 1e-3}\ntrain: {seed: 3}\n")
    config = Config.load(tmp_path / "c.yaml", {"train.seed": 4})
    assert (config.optim.lr, config.train.seed) == (1e-3, 4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("anchors.bg_iou_threshold", 0.9, r"anchors.bg_iou_threshold: got 0.9, .*fg_iou_threshold \(0.5\)"),
        (
            "anchors.anchor_list",
            "FOO",
            r"anchors.anchor_list: got 'FOO', allowed: PSEE_ANCHORS, COCO_ANCHORS or list",
        ),
        ("anchors.anchor_list", [[1, -1]], r"anchors.anchor_list.*above 0"),
        ("data.num_tbins", 0, r"data.num_tbins: got 0, allowed: a number above 0"),
        ("data.delta_t", "abc", r"data.delta_t: got 'abc', allowed: a whole number"),
        ("data.num_utbins", 0, r"data.num_utbins: got 0, allowed: a number above 0"),
        (
            "data.preprocess",
            "x",
            r"data.preprocess: got 'x', allowed: histo, stacked_histo, diff, .*, or an import path such as mylab.m",
        ),
        ("model.first_stride", 0, r"model.first_stride: got 0, allowed: a number above 0"),
        ("optim.lrr", 1, r"optim.lrr: unknown key, did you mean optim.lr\?"),
        ("data.height", "x", r"data.height: got 'x', allowed: a whole number or null"),
        ("train.precision", "x", r"train.precision: got 'x', allowed: auto, 32-true, bf16-mixed, 16-mixed"),
    ],
)
def test_errors_name_the_key_the_value_and_what_is_allowed(key, value, message):
    with pytest.raises(ValueError, match=message) as error:
        Config().with_overrides({key: value})
    assert "\n" not in str(error.value)


def test_unknown_key_in_a_file_names_the_file(tmp_path):
    (tmp_path / "c.yaml").write_text("optim: {lrr: 1}\n")
    with pytest.raises(ValueError, match=r"c.yaml: unknown key optim.lrr, did you mean optim.lr\?"):
        Config.load(tmp_path / "c.yaml")
    (tmp_path / "d.yaml").write_text("a: [1\n")
    with pytest.raises(ValueError, match="d.yaml: not YAML"):
        Config.load(tmp_path / "d.yaml")
    with pytest.raises(FileNotFoundError, match="no such configuration file"):
        Config.load(tmp_path / "e.yaml")
    (tmp_path / "f.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="f.yaml: is not a text file, allowed: a YAML file"):
        Config.load(tmp_path / "f.yaml")
    with pytest.raises(ValueError, match="is a folder, allowed: a YAML file"):
        Config.load(tmp_path)
    (tmp_path / "g.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"g.yaml: a configuration contains groups \(data, model, .*track\)"):
        Config.load(tmp_path / "g.yaml")


def test_a_file_may_be_empty_and_keys_may_be_dotted(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert Config.load(tmp_path / "empty.yaml") == Config.load() == Config()
    (tmp_path / "dotted.yaml").write_text("train.seed: 7\noptim: {lr: 0.5}\n")
    config = Config.load(tmp_path / "dotted.yaml")
    assert (config.train.seed, config.optim.lr) == (7, 0.5)


def test_keys_like_no_other_get_a_list_of_the_allowed_ones():
    with pytest.raises(ValueError, match=r"^loss.zzzzzzzz: unknown key, allowed: loss\.\w+, [^:]*$") as error:
        Config().with_overrides({"loss.zzzzzzzz": 1})
    assert "optim." not in str(error.value)
    with pytest.raises(ValueError, match=r"^qqqqqqqq: unknown key, allowed: data\..*, track\.\w+$"):
        Config().with_overrides({"qqqqqqqq": 1})


def test_all_mistakes_of_one_call_have_a_line_each():
    wrong = {"data.delta_t": "abc", "data.height": "x", "model.first_stride": 0, "optim.lrr": 1, "train.seed": "s"}
    with pytest.raises(ValueError, match="optim.lrr") as error:
        Config().with_overrides(wrong)
    lines = str(error.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        *("optim.lrr", "data.delta_t", "data.height", "model.first_stride", "train.seed")
    ]


def test_the_original_stays_and_the_fingerprint_has_16_digits():
    config = Config()
    changed = config.with_overrides({"train.seed": 8})
    assert (config.train.seed, changed.train.seed) == (0, 8)
    assert len(config.fingerprint()) == 16 and int(config.fingerprint(), 16) > 0
    assert Config.from_hparams({"seed": 8}) == changed

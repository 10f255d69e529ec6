"""Single methods of the Lightning module, without a dataset."""

import pytest
import torch

from detector import lightning_model
from detector.config import Config
from detector.lightning_model import LightningDetectionModel, NonFiniteLossError, build_ssd, read_checkpoint

SETTINGS = {
    "data.classes": ["car", "bus"],
    "model.feature_base": 4,
    "model.feature_channels_out": 8,
    "model.first_stride": 8,
    "model.num_levels": 2,
}


def make_model(**overrides):
    return LightningDetectionModel(Config().with_overrides({**SETTINGS, **overrides}).to_hparams())


@pytest.fixture(scope="module")
def model():
    return make_model(**{"loss.loc_weight": 4.0})


def test_the_detector_has_the_settings_of_its_groups():
    changes = {
        "data.preprocess": "stacked_histo",
        "model.nlayers": 2,
        "model.max_boxes_per_input": 70,
        "anchors.anchor_list": [(1.0, 2.0)],
        "anchors.fg_iou_threshold": 0.7,
        "anchors.bg_iou_threshold": 0.2,
        "anchors.allow_low_quality_matches": False,
        "anchors.base_size": 20,
        "anchors.variances": [0.3, 0.4],
        "loss.focal_alpha": 0.6,
        "loss.focal_gamma": 1.5,
        "loss.loc_beta": 0.5,
        "loss.normalizer": "ema",
    }
    detector = build_ssd(Config().with_overrides({**SETTINGS, **changes}))
    coder, loss = detector.box_coder, detector.criterion
    assert (detector.in_channels, detector.num_classes, detector.max_boxes_per_input) == (6, 2, 70)
    assert (coder.anchor_list, coder.base_size, coder.variances) == ([(1.0, 2.0)], 20, [0.3, 0.4])
    assert (coder.fg_iou_threshold, coder.bg_iou_threshold, coder.allow_low_quality_matches) == (0.7, 0.2, False)
    assert (coder.strides, detector.feature_extractor.cout, len(detector.rpn.cls_head)) == ([8, 16], 8, 5)
    assert detector.feature_extractor.blocks[0][0].weight.shape[:2] == (4, 6)
    assert (loss.alpha, loss.gamma, loss.beta, loss.normalizer) == (0.6, 1.5, 0.5, "ema")


def batch_of(losses, model, monkeypatch):
    """Give the model a batch whose losses are known; return the batch and what the model logs."""
    logged = []
    monkeypatch.setattr(model, "log", lambda *arguments, **options: logged.append((*arguments, options)))
    monkeypatch.setattr(model.detector, "compute_loss", lambda *arguments: losses)
    return {
        "labels": [],
        "mask_keep_memory": None,
        "frame_is_labeled": None,
        "inputs": torch.zeros(3, 1, 2, 24, 40),
    }, logged


def test_the_loss_is_a_weighted_sum_and_its_parts_are_averaged(model, monkeypatch):
    batch, logged = batch_of({"cls_loss": torch.tensor(1.5), "loc_loss": torch.tensor(0.25)}, model, monkeypatch)
    model.on_train_epoch_start()
    assert model.training_step(batch, 0) == 2.5
    monkeypatch.setattr(
        model.detector, "compute_loss", lambda *_: {"cls_loss": torch.tensor(0.5), "loc_loss": torch.tensor(0.75)}
    )
    assert model.training_step(batch, 1) == 3.5
    assert model.mean_losses.tolist() == [3.0, 1.0, 0.5]
    assert (model.height, model.width) == (24, 40)
    assert [(name, float(value)) for name, value, _ in logged] == [("loss", 2.5), ("loss", 3.5)]
    assert logged[0][-1] == {"prog_bar": True, "logger": False, "batch_size": 1}
    model.on_train_epoch_start()
    assert (model._loss_sum.tolist(), model._loss_count) == ([0, 0, 0], 0)


def test_a_loss_that_is_not_finite_is_not_counted(model, monkeypatch):
    batch, _ = batch_of({"cls_loss": torch.tensor(1.0), "loc_loss": torch.tensor(float("inf"))}, model, monkeypatch)
    model.on_train_epoch_start()
    with pytest.raises(
        NonFiniteLossError, match=r"the loss is inf in epoch 0, batch 6: a lower optim.lr \(now 0.0002\)"
    ):
        model.training_step(batch, 6)
    assert model._loss_count == 0


def test_without_a_label_map_classes_are_numbered_from_zero(model):
    assert model.label_map == {0: "car", 1: "bus"} and model.measured is None
    model.label_map = {7: "bus", 2: "car", 4: "truck"}
    found = model.new_predictions()
    assert found.classes == {2: "car", 7: "bus"} and found.class_ids.tolist() == [0, 2, 7]


def test_only_inputs_and_mask_are_moved(model):
    batch = {"inputs": torch.zeros(1), "mask_keep_memory": torch.ones(2), "frame_is_labeled": torch.ones(3), "n": 5}
    moved = model.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {key: value.device.type for key, value in moved.items() if key != "n"} == {
        "inputs": "meta",
        "mask_keep_memory": "meta",
        "frame_is_labeled": "cpu",
    }
    assert moved["n"] == 5 and batch["inputs"].device.type == "cpu"


def test_a_checkpoint_has_what_an_export_needs(model):
    model.label_map, model.height, model.width = {3: "car", 5: "bus"}, 48, 64
    checkpoint = {}
    model.on_save_checkpoint(checkpoint)
    assert checkpoint == {"dataset": {"label_map": {3: "car", 5: "bus"}, "height": 48, "width": 64}}
    other = make_model()
    other.on_load_checkpoint(checkpoint)
    assert (other.label_map, other.height, other.width) == ({3: "car", 5: "bus"}, 48, 64)
    assert other._predictions.class_ids.tolist() == [0, 3, 5]


def test_files_that_are_no_checkpoints(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("a\nb")
    with pytest.raises(ValueError, match=r"text.ckpt: not a checkpoint of a detector \(.*\), allowed: a file") as error:
        read_checkpoint(tmp_path / "text.ckpt")
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(tmp_path)) + 240
    for content in ([1], {"state_dict": {}}, {"hyper_parameters": {}}):
        torch.save(content, tmp_path / "part.ckpt")
        with pytest.raises(ValueError, match="part.ckpt: not a checkpoint of a detector, allowed: a file"):
            read_checkpoint(tmp_path / "part.ckpt")
    torch.save({"state_dict": {}, "hyper_parameters": {}, "more": 1}, tmp_path / "whole.ckpt")
    assert read_checkpoint(tmp_path / "whole.ckpt")["more"] == 1


@pytest.mark.parametrize("show", [False, True])
def test_a_video_of_the_first_batches(model, monkeypatch, tmp_path, show):
    monkeypatch.chdir(tmp_path)
    given, shown, opened = [], [], []

    def detect(detector, batches, score_thresh, nms_thresh, device):
        given.append((score_thresh, nms_thresh))
        return ((batch, None) for batch in batches)

    monkeypatch.setattr(lightning_model, "detect", detect)
    monkeypatch.setattr(model, "test_dataloader", lambda: range(150))
    monkeypatch.setattr(lightning_model, "draw_stream", lambda batch, preds, classes: [batch])
    monkeypatch.setattr(
        lightning_model, "save_gif", lambda path, images, delta_t: (shown.append((images, delta_t)), path)[1]
    )
    monkeypatch.setattr(lightning_model.webbrowser, "open", opened.append)
    assert model.demo_video(show_video=show) == tmp_path / "demo_0.gif"
    assert model.demo_video(7, 2) == tmp_path / "demo_7.gif"
    assert given == [(0.4, 0.5)] * 2 and shown == [(list(range(100)), 50_000), ([0, 1], 50_000)]
    assert opened == ([(tmp_path / "demo_0.gif").as_uri()] if show else [])

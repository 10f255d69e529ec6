import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from toy_dataset import write_toy_dataset

from detector.config import Config
from detector.data.dataset import SequenceDataset
from detector.evaluation.detect import detect
from detector.events.types import BBOX_dtype
from detector.lightning_model import (
    LightningDetectionModel,
    NonFiniteLossError,
    bboxes_to_box_vectors,
)

COUNTS = {"train": 6, "val": 3, "test": 1}
SETTINGS = {
    "data.num_tbins": 10,
    "data.batch_size": 4,
    "data.num_workers": 0,
    "data.min_box_diag": 0,
    "data.min_box_side": 0,
    "data.augment": False,
    "model.feature_base": 4,
    "model.feature_channels_out": 16,
    "model.first_stride": 8,
    "model.num_levels": 2,
    "anchors.base_size": 16,
    "optim.lr": 5e-3,
    "optim.warmup_epochs": 0.5,
    "optim.lr_scheduler": "cosine",
    "train.max_epochs": 30,
}


def make_model(dataset, **overrides):
    config = Config().with_overrides({**SETTINGS, "data.dataset_path": str(dataset), **overrides})
    pl.seed_everything(0, verbose=False)
    return LightningDetectionModel(config.to_hparams())


def make_trainer(**kwargs):
    defaults = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "num_sanity_val_steps": 0,
    }
    return pl.Trainer(**{**defaults, **kwargs})


def fit(dataset, checkpoint=None, **overrides):
    model = make_model(dataset, **overrides)
    epochs = model.config.train.max_epochs
    trainer = make_trainer(max_epochs=epochs, check_val_every_n_epoch=epochs)
    trainer.fit(model)
    if checkpoint is not None:
        trainer.save_checkpoint(checkpoint)
    return model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return write_toy_dataset(tmp_path_factory.mktemp("toy"), COUNTS)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return tmp_path_factory.mktemp("checkpoint") / "m.ckpt"


@pytest.fixture(scope="module")
def trained(dataset, checkpoint):
    return fit(dataset, checkpoint)


def measure(model, **overrides):
    model = copy.deepcopy(model)
    model.hparams.update(overrides)
    make_trainer().validate(model, verbose=False)
    return model.measured.metrics


def test_learns_what_is_there(trained):
    assert measure(trained)["mean_ap50"] > 0.6


def test_shuffled_labels_score_near_zero(tmp_path):
    shuffled = fit(write_toy_dataset(tmp_path / "toy", COUNTS, shuffled=True))
    assert shuffled.measured.metrics["mean_ap50"] < 0.1


def test_batch_composition_does_not_change_a_figure(trained):
    together, alone = measure(trained, batch_size=3), measure(trained, batch_size=1)
    assert together == pytest.approx(alone, abs=1e-6)


def test_memory_matters(trained, monkeypatch):
    """Blocks that stop send nothing: without memory they are lost."""
    with_memory = measure(trained)["mean_ap50"]

    def one_frame_at_a_time(detector, x, *args):
        steps = []
        for frame in x:
            detector.reset_all()
            steps += type(detector).get_boxes(detector, frame.unsqueeze(0), *args)
        return steps

    model = copy.deepcopy(trained)
    monkeypatch.setattr(model.detector, "get_boxes", lambda *args: one_frame_at_a_time(model.detector, *args))
    make_trainer().validate(model, verbose=False)
    assert model.measured.metrics["mean_ap50"] < with_memory - 0.08


def test_two_ranks_measure_what_one_measures(trained):
    strategy = DDPStrategy(process_group_backend="gloo", start_method="spawn", broadcast_buffers=False)
    trainer = make_trainer(devices=2, strategy=strategy)
    two = trainer.validate(copy.deepcopy(trained), verbose=False)[0]
    one = {f"val_{key}": value for key, value in measure(trained).items() if value is not None}
    assert one == pytest.approx({key: two[key] for key in one}, abs=1e-6)
    assert "val_mean_ap_big" not in two, "no box is big: there is no value, so none is logged"


def test_validation_clears_the_state_between_recordings(trained):
    """Three recordings in two streams: what Lightning collects is what each recording gives alone."""
    model = copy.deepcopy(trained)
    model.hparams.update(batch_size=2, score_thresh=0.05)
    model.eval()
    model._start_inference()
    for number, batch in enumerate(model.val_dataloader()):
        model.inference_step(model.on_after_batch_transfer(batch, 0), number)
    together = {recording.path: recording.detections for recording in model._predictions.recordings()}
    dataset = model.val_dataloader().dataset.dataset
    assert len(together) == len(dataset.files) == 3
    for file in dataset.files:
        alone = SequenceDataset([file], dataset.targets, 1, train=False)
        predictions = model.new_predictions()
        for batch, boxes in detect(model.detector, (alone[0, step] for step in range(len(alone))), 0.05, 0.5):
            predictions.add(boxes, batch["video_infos"], batch["frame_is_labeled"])
        (expected,) = predictions.recordings()
        found = together[str(file.path)]
        assert len(found) == pytest.approx(len(expected.detections), abs=2), "scores at the threshold may differ"
        assert np.sort(found["class_confidence"])[-20:] == pytest.approx(
            np.sort(expected.detections["class_confidence"])[-20:], abs=1e-4
        )


def test_a_sanity_check_that_sees_no_labelled_frame_is_no_error(dataset):
    model = make_model(dataset, **{"data.skip_us": 400_000, "train.max_epochs": 1})
    trainer = make_trainer(max_epochs=1, num_sanity_val_steps=1)
    trainer.fit(model)
    assert model.measured is not None


def test_a_validation_that_can_measure_nothing_is_an_error(dataset):
    model = make_model(dataset, **{"data.skip_us": 60_000_000})
    with pytest.raises(ValueError, match="val: no labelled frame counts: .*data.skip_us"):
        make_trainer().validate(model, verbose=False)


def test_same_seed_same_weights(dataset):
    first, second = (fit(dataset, **{"train.max_epochs": 1, "data.augment": True}) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoint_holds_primitives_and_what_an_export_needs(trained, checkpoint):
    torch.load(checkpoint, weights_only=True)
    loaded = LightningDetectionModel.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)
    assert loaded.classes == ["block", "tower"] and loaded.label_map == {0: "block", 1: "tower"}
    assert (loaded.height, loaded.width) == (64, 96) and loaded.config == trained.config


def test_load_pretrained_maps_classes_by_name(dataset, trained, checkpoint):
    model = make_model(dataset, **{"data.classes": ["tower"]})
    model.load_pretrained(str(checkpoint))
    old = trained.detector.rpn.cls_head[-1].bias.view(6, 3)
    assert torch.equal(model.detector.rpn.cls_head[-1].bias.view(6, 2), old[:, [0, 2]])
    x = torch.rand(1, 1, 2, 64, 96)
    trained.detector.reset_all()
    for a, b in zip(
        model.detector.eval().feature_extractor(x), trained.detector.eval().feature_extractor(x), strict=True
    ):
        assert torch.equal(a, b)
    wider = make_model(dataset, **{"model.feature_base": 8})
    with pytest.raises(ValueError, match=r"m.ckpt: detector.feature_extractor.* has shape \(4, .* this model: \(8"):
        wider.load_pretrained(str(checkpoint))


def test_a_loss_that_is_not_finite_stops_with_a_message(dataset):
    model = make_model(dataset)
    with torch.no_grad():
        model.detector.rpn.cls_head[-1].bias.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match="the loss is nan in epoch 0, batch 0: a lower optim.lr"):
        make_trainer(max_epochs=1).fit(model)


def test_demo_video(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = copy.deepcopy(trained)
    model._trainer = None
    path = model.demo_video(epoch=3, num_batches=2)
    assert path.name == "demo_3.gif" and path.read_bytes()[:4] == b"GIF8"


def test_box_vectors_of_arrays_and_tensors():
    boxes = np.zeros(1, BBOX_dtype)
    boxes["x"], boxes["y"], boxes["w"], boxes["h"], boxes["class_id"], boxes["track_id"] = 1, 2, 3, 4, 5, 6
    assert bboxes_to_box_vectors(boxes).tolist() == [[1, 2, 4, 6, 5, 6]]
    assert bboxes_to_box_vectors(torch.tensor([[1.0, 2, 4, 6, 5]])).tolist() == [[1, 2, 4, 6, 5, 0]]
    assert bboxes_to_box_vectors(np.ones((2, 6))).shape == (2, 6)
    with pytest.raises(ValueError, match=r"bbox: got shape \(2, 4\)"):
        bboxes_to_box_vectors(torch.zeros(2, 4))

import argparse
import copy

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.utils.data import DataLoader
from toy_dataset import write_toy_dataset

from detector.config import Config
from detector.data.dataset import SequenceDataset
from detector.evaluation.detect import detect
from detector.events.types import BBOX_dtype
from detector.layers.recurrent import stateful_modules
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
    model(torch.ones(1, 2, 2, 64, 96))
    model._start_inference()
    assert not any(cell.state for cell in stateful_modules(model))
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


# Learning rates, clipping and settings under a plain trainer, with a training that costs nothing


class Idle(LightningDetectionModel):
    """Trains nothing, in a given number of batches per epoch."""

    batches, gradient = 4, 0.0

    def train_dataloader(self):
        return DataLoader(range(self.batches))

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return batch

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch

    def training_step(self, batch, batch_nb):
        return sum(parameter.sum() for parameter in self.parameters()) * self.gradient


class Recorder(pl.Callback):
    """Learning rates and weight decay of each batch, by progress, as callbacks and the optimizer see them."""

    def __init__(self, checkpoint=None, at_epoch=None):
        self.rates, self.decays, self.norms = {}, set(), []
        self.checkpoint, self.at_epoch = checkpoint, at_epoch

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        (group,) = trainer.optimizers[0].param_groups
        self.rates[trainer.current_epoch + batch_idx / trainer.num_training_batches] = group["lr"]
        self.decays.add(group["weight_decay"])

    def on_before_zero_grad(self, trainer, module, optimizer):
        grads = [p.grad for p in module.parameters() if p.grad is not None]
        self.norms += [float(torch.stack([g.norm() for g in grads]).norm())] if grads else []

    def on_train_epoch_end(self, trainer, module):
        if trainer.current_epoch == self.at_epoch:
            trainer.save_checkpoint(self.checkpoint)


def idle(dataset, recorder, ckpt=None, batches=4, gradient=0.0, trainer=None, **overrides):
    model = make_model(dataset, **overrides)
    idle_model = Idle(model.hparams)
    idle_model.batches, idle_model.gradient = batches, gradient
    options = {"max_epochs": 4, "limit_val_batches": 0, "callbacks": [recorder], **(trainer or {})}
    make_trainer(**options).fit(idle_model, ckpt_path=ckpt)
    return recorder


COSINE = {"optim.lr": 3e-3, "optim.lr_scheduler": "cosine", "optim.warmup_epochs": 0.5, "train.max_epochs": 20}


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("rates") / "2.ckpt"
    return idle(dataset, Recorder(path, at_epoch=1), batches=8, **COSINE)


def test_rates_are_of_the_trainers_epochs(whole):
    assert len(whole.rates) == 32
    assert whole.rates[0] == pytest.approx(3e-6)
    assert whole.rates[0.25] == pytest.approx(3e-3 * 0.5005 * 1.0, rel=1e-3)
    assert whole.rates[2.25] == pytest.approx(1.5e-3)  # half of the way from 0.5 to 4


@pytest.mark.parametrize(
    ("batches", "trainer"),
    [(4, {}), (2, {}), (16, {}), (8, {"accumulate_grad_batches": 4}), (9, {"limit_train_batches": 4})],
)
def test_a_resume_stays_on_the_curve(dataset, whole, batches, trainer):
    resumed = idle(dataset, Recorder(), whole.checkpoint, batches, trainer=trainer, **COSINE)
    assert min(resumed.rates) == 2.0
    shared = resumed.rates.keys() & whole.rates.keys()
    assert len(shared) >= 4
    for progress in shared:
        assert resumed.rates[progress] == pytest.approx(whole.rates[progress], rel=1e-9)


def test_a_resume_with_more_epochs_follows_the_longer_curve(dataset, whole):
    longer = idle(dataset, Recorder(), trainer={"max_epochs": 8}, **COSINE)
    resumed = idle(dataset, Recorder(), whole.checkpoint, trainer={"max_epochs": 8}, **COSINE)
    assert resumed.rates == {progress: rate for progress, rate in longer.rates.items() if progress >= 2}


def test_a_resume_takes_the_rates_of_the_settings_and_keeps_the_weight_decay(dataset, whole):
    assert whole.decays == {1e-5}
    assert idle(dataset, Recorder(), whole.checkpoint, **COSINE).decays == {1e-5}
    changed = idle(dataset, Recorder(), whole.checkpoint, 8, **{**COSINE, "optim.lr": 6e-3, "optim.weight_decay": 0.25})
    assert changed.decays == {0.25}
    assert changed.rates[2.25] == pytest.approx(2 * whole.rates[2.25])


def test_an_epoch_begins_with_a_clear_state_and_an_empty_mean_loss(dataset):
    seen, recorder = [], Recorder()

    def begin(trainer, module, batch, batch_idx):
        seen.append(([len(cell.state) for cell in stateful_modules(module)], module._loss_sum.tolist()))
        module(torch.ones(1, 1, 2, 64, 96))
        module._loss_sum += torch.tensor([2.0, 3.0, 5.0])

    recorder.on_train_batch_start = begin
    idle(dataset, recorder, batches=2, trainer={"max_epochs": 2})
    assert seen == [([0, 0], [0.0, 0.0, 0.0]), ([2, 2], [2.0, 3.0, 5.0])] * 2


def test_steps_alone_bound_a_training(dataset):
    found = idle(
        dataset, Recorder(), trainer={"max_epochs": -1, "max_steps": 8}, **{**COSINE, "optim.warmup_epochs": 0}
    )
    assert found.rates[1.0] == pytest.approx(1.5e-3)


@pytest.mark.parametrize(
    ("trainer", "setting", "expected"),
    [({}, 1.0, 1.0), ({}, 0.25, 0.25), ({"gradient_clip_val": 0.5}, 1.0, 0.5), ({"gradient_clip_val": 0}, 1.0, None)],
)
def test_gradients_are_clipped_under_any_trainer(dataset, trainer, setting, expected):
    options = {"max_epochs": 1, **trainer}
    found = idle(dataset, Recorder(), gradient=10.0, trainer=options, **{"optim.gradient_clip": setting})
    assert len(found.norms) > 0
    assert all(norm == pytest.approx(expected, rel=1e-3) if expected else norm > 100 for norm in found.norms)


def test_gradients_are_clipped_by_value_where_the_trainer_says_so(dataset):
    seen = []
    recorder = Recorder()
    recorder.on_before_zero_grad = lambda trainer, module, optimizer: seen.extend(
        float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None
    )
    options = {"max_epochs": 1, "gradient_clip_val": 0.125, "gradient_clip_algorithm": "value"}
    idle(dataset, recorder, gradient=10.0, trainer=options)
    assert set(seen) == {0.125}


def test_missing_leaves_take_their_defaults(dataset, trained, checkpoint, tmp_path):
    model = LightningDetectionModel(argparse.Namespace(dataset_path=str(dataset)))
    assert model.config == Config().with_overrides(
        {"data.dataset_path": str(dataset), "data.classes": ["block", "tower"]}
    )
    assert model.protocol.skip_us == 500_000 and model.hparams["loc_weight"] == 1.0
    content = torch.load(checkpoint, weights_only=True)
    for leaf in ("skip_us", "loc_weight", "nms_thresh", "normalizer", "warmup_epochs", "delta_t"):
        del content["hyper_parameters"][leaf]
    content["hyper_parameters"]["warmup_steps"] = 10
    del content["state_dict"]["detector.criterion.mean_positives"]
    torch.save(content, tmp_path / "old.ckpt")
    old = LightningDetectionModel.load_from_checkpoint(tmp_path / "old.ckpt", map_location="cpu", weights_only=True)
    assert old.config.data.skip_us == 500_000
    make_model(dataset).load_pretrained(str(tmp_path / "old.ckpt"))


def test_load_pretrained_names_what_is_missing(dataset, checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    path = str(tmp_path / "some.ckpt")
    one = {key: value for key, value in content["state_dict"].items() if "levels.1." not in key}
    torch.save(
        {**content, "state_dict": one, "hyper_parameters": {**content["hyper_parameters"], "num_levels": 1}}, path
    )
    with pytest.raises(
        ValueError, match=r"some.ckpt: lacks detector.feature_extractor.levels.1.h2h.weight, .*x2h.bias"
    ):
        make_model(dataset).load_pretrained(path)
    for key in ("detector.feature_extractor.blocks.0.1.running_var", "detector.rpn.cls_head.0.bias"):
        torch.save({**content, "state_dict": {k: v for k, v in content["state_dict"].items() if k != key}}, path)
        with pytest.raises(ValueError, match=f"some.ckpt: lacks {key}, allowed: a checkpoint with all weights"):
            make_model(dataset).load_pretrained(path)
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="some.ckpt: not a checkpoint of a detector, allowed"):
        make_model(dataset).load_pretrained(path)

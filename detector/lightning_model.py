"""Lightning module that trains a detector and evaluates its COCO mAP over whole recordings."""

import argparse
import re
import webbrowser
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.utils.data import DataLoader

from detector.box import bboxes_to_box_vectors
from detector.config import Config
from detector.data.dataset import scale_inputs
from detector.data.label_map import LABEL_MAP_NAME, class_names, read_label_map
from detector.data_factory import psee_data
from detector.evaluation.collector import NOTHING_COUNTS, FramePredictions, Measured, Protocol
from detector.evaluation.detect import detect, detect_batch
from detector.losses import DetectionLoss
from detector.optim.optimizers import build_optimizer
from detector.optim.progress import end_resumed_epoch, factor_now, set_learning_rate, take_rates
from detector.preprocess.representation import representation_of
from detector.single_stage_detector import SingleStageDetector
from detector.visualization.drawing import draw_stream, save_gif

__all__ = [
    "LightningDetectionModel",
    "NonFiniteLossError",
    "bboxes_to_box_vectors",
    "build_ssd",
    "read_checkpoint",
]

LOSSES = ("train_loss", "train_cls_loss", "train_loc_loss")
VIDEO_SCORE = 0.4
"""Lowest score of the detections that `demo_video` draws."""


class NonFiniteLossError(RuntimeError):
    """The training loss is NaN or infinite."""


def build_ssd(config: Config) -> SingleStageDetector:
    """Build the detector that a configuration describes."""
    model, anchors, loss = config.model, config.anchors, config.loss
    detector = SingleStageDetector(
        model.feature_extractor,
        representation_of(config.data).channels,
        len(class_names(config.data)),
        model.feature_base,
        model.feature_channels_out,
        anchors.anchor_list,
        model.nlayers,
        model.max_boxes_per_input,
        fg_iou_threshold=anchors.fg_iou_threshold,
        bg_iou_threshold=anchors.bg_iou_threshold,
        allow_low_quality_matches=anchors.allow_low_quality_matches,
        base_size=anchors.base_size,
        variances=anchors.variances,
        first_stride=model.first_stride,
        num_levels=model.num_levels,
        criterion=DetectionLoss(
            loss.cls_loss_func,
            box_loss_func=loss.box_loss_func,
            alpha=loss.focal_alpha,
            gamma=loss.focal_gamma,
            beta=loss.loc_beta,
            normalizer=loss.normalizer,
        ),
    )
    return detector.to(memory_format=torch.channels_last)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a Lightning checkpoint to the CPU, without running code from the file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is not a checkpoint, or lacks the settings or the weights.
    """
    allowed = "allowed: a file written by `evforge train`"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch raises errors of many types for files that it did not write
        reason = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())[:120]
        raise ValueError(f"{path}: not a checkpoint of a detector ({reason}), {allowed}") from None
    if not isinstance(content, dict) or not content.keys() >= {"hyper_parameters", "state_dict"}:
        raise ValueError(f"{path}: not a checkpoint of a detector, {allowed}")
    return content


class LightningDetectionModel(pl.LightningModule):
    """Lightning module that builds a detector from settings, trains the detector and evaluates it.

    Metrics are logged as `train_loss`, `val_mean_ap`, `val_mean_ap50`, ..., `test_mean_ap`, ...

    Args:
        hparams: namespace of settings, as returned by `Config.to_hparams()`. Missing settings, as in older checkpoints,
            get their defaults. If `classes` is empty, the classes of the dataset are used and stored with the model.

    Attributes:
        classes: names of the labels 1..K.
        label_map: dict from the class ids in files to class names.
        height, width: size of the frames of the last batch in pixels; None before the first batch.
        measured: result of the last evaluation; None before the first evaluation, or if no frame was evaluated.
    """

    def __init__(self, hparams: argparse.Namespace) -> None:
        super().__init__()
        config = Config.from_hparams(hparams)
        self.classes = class_names(config.data)
        given = hparams if isinstance(hparams, Mapping) else vars(hparams)  # Lightning loads checkpoints with a mapping
        leaves = {**given, **vars(config.to_hparams()), "classes": self.classes}
        self.save_hyperparameters(argparse.Namespace(**leaves))
        self._hparams_name = "hparams"  # Lightning only sets it if the argument itself is saved
        path = Path(config.data.dataset_path) / LABEL_MAP_NAME
        self.label_map = read_label_map(path) if path.is_file() else dict(enumerate(self.classes))
        self.height: int | None = None
        self.width: int | None = None
        self.detector = build_ssd(self.config)
        self.measured: Measured | None = None
        self._predictions = self.new_predictions()
        self._loss_sum = torch.zeros(3)  # total, class and box loss
        self._loss_count = 0

    @property
    def config(self) -> Config:
        """Configuration of the model. `data.classes` contains the names of the classes."""
        return Config.from_hparams(self.hparams)

    @property
    def protocol(self) -> Protocol:
        """Evaluation protocol that the configuration of the model defines."""
        return Protocol.of(self.config)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the box offsets and class logits of a batch (T, B, C, H, W), see `SingleStageDetector.forward`."""
        return self.detector(x)

    # Training

    def on_train_epoch_start(self) -> None:
        """Clear the recurrent state and the mean loss, so that an interrupted epoch can start again."""
        self.detector.reset_all()
        self._loss_sum = torch.zeros(3, device=self.device)
        self._loss_count = 0

    @property
    def mean_losses(self) -> Tensor:
        """Mean total, class and box loss of the batches of this epoch on this rank, of shape (3,)."""
        return self._loss_sum / self._loss_count

    def training_step(self, batch: dict[str, Any], batch_nb: int) -> Tensor:
        """Return the loss of a batch: the classification loss plus `loss.loc_weight` times the box loss.

        Raises:
            NonFiniteLossError: the loss is not a finite number.
        """
        self._note_size(batch)
        losses = self.detector.compute_loss(
            batch["inputs"], batch["labels"], batch["mask_keep_memory"], batch["frame_is_labeled"]
        )
        loss = losses["cls_loss"] + self.config.loss.loc_weight * losses["loc_loss"]
        if not torch.isfinite(loss):
            raise NonFiniteLossError(
                f"the loss is {loss.item()} in epoch {self.current_epoch}, batch {batch_nb}: "
                f"a lower optim.lr (now {self.config.optim.lr}) or optim.gradient_clip may help"
            )
        self._loss_sum += torch.stack([loss, losses["cls_loss"], losses["loc_loss"]]).detach()
        self._loss_count += 1
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=1)
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Create the optimizer and the learning rate schedule that are selected in the settings `optim`."""
        optimizer = build_optimizer(self.parameters(), self.config.optim, fused=self._unscaled)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: factor_now(self.trainer, self.config))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Prepare a resumed training.

        Marks the resumed epoch as complete if its last batch is already trained, and replaces the learning rate and
        weight decay of the checkpoint with the values of the settings.
        """
        end_resumed_epoch(self.trainer)
        take_rates(self.trainer, self.config)

    def on_train_batch_end(self, outputs: Any, batch: dict[str, Any], batch_idx: int) -> None:
        """Set the learning rate for the next batch.

        Lightning itself does this only after the batches in which the optimizer makes a step.
        """
        set_learning_rate(self.trainer, self.config)

    def configure_gradient_clipping(
        self, optimizer: Any, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip gradients with the settings of the trainer; if it has none, to the norm `optim.gradient_clip`.

        Without loss scaling, torch clips the gradients, because Lightning refuses to clip for fused optimizers.
        """
        if gradient_clip_val is None:
            gradient_clip_val, gradient_clip_algorithm = self.config.optim.gradient_clip, "norm"
        if not self._unscaled:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif gradient_clip_val and gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        elif gradient_clip_val:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    @property
    def _unscaled(self) -> bool:
        """Whether gradients are computed without loss scaling, which only float16 training uses."""
        return self.trainer.precision != "16-mixed"

    def load_pretrained(self, checkpoint_path: str) -> None:
        """Load the weights of a trained detector. The last class layer is copied only for classes of the same name.

        Args:
            checkpoint_path: Lightning checkpoint of a model with the same backbone and number of anchors per cell.

        Raises:
            ValueError: the file is not a Lightning checkpoint, a weight is missing, or a weight outside of the last
                class layer has another shape.
        """
        checkpoint = read_checkpoint(checkpoint_path)
        source = LightningDetectionModel(argparse.Namespace(**checkpoint["hyper_parameters"]))
        theirs, own = checkpoint["state_dict"], self.state_dict()
        ours, rows = _shared_weights(self), source.state_dict().keys() - _shared_weights(source)
        weights = {key: theirs[key] for key in theirs if key in _shared_weights(source) | ours}
        for key, value in weights.items():
            if key not in ours or own[key].shape != value.shape:
                expected = tuple(own[key].shape) if key in own else "no such weight"
                raise ValueError(f"{checkpoint_path}: {key} has shape {tuple(value.shape)}, this model: {expected}")
        missing = (ours | {key for key in rows if "cls_head" in key}) - theirs.keys()
        if missing:
            allowed = "a checkpoint with all weights of this model except its class rows"
            raise ValueError(f"{checkpoint_path}: lacks {', '.join(sorted(missing))}, allowed: {allowed}")
        source.load_state_dict({key: theirs[key] for key in rows & theirs.keys()}, strict=False)
        self.load_state_dict(weights, strict=False)
        self.detector.map_cls_weights(source.detector, source.classes, self.classes)

    # Evaluation

    def on_validation_epoch_start(self) -> None:
        """Average the floating-point buffers over ranks, and clear the recurrent state and collected predictions."""
        self._average_batch_norms()
        self._start_inference()

    def on_validation_epoch_end(self) -> None:
        """Compute mAP on the validation split, and log mAP and the mean training losses of the epoch."""
        if self._loss_count:
            self.log_dict(dict(zip(LOSSES, self.mean_losses, strict=True)), prog_bar=True, sync_dist=True)
        self.inference_epoch_end(self._predictions, mode="val")

    def on_test_epoch_end(self) -> None:
        """Compute and log mAP on the test split."""
        self.inference_epoch_end(self._predictions, mode="test")

    def inference_step(self, batch: dict[str, Any], batch_nb: int) -> None:
        """Detect boxes in a batch, and collect the labels and detections of labelled frames."""
        self._note_size(batch)
        protocol = self._predictions.protocol
        preds = detect_batch(self.detector, batch, protocol.score_thresh, protocol.nms_thresh)
        self.accumulate_predictions(preds, batch["labels"], batch["video_infos"], batch["frame_is_labeled"])

    validation_step = test_step = inference_step

    def accumulate_predictions(
        self, preds: list, targets: list, video_infos: Sequence, frame_is_labeled: Tensor
    ) -> None:
        """Collect the labels and detections of labelled frames, grouped by recording.

        Args:
            preds: list of T lists of B detections, see `SingleStageDetector.get_boxes`.
            targets: list of T lists of B training targets. Not used, because `video_infos` contains the labels.
            video_infos: list of B pairs: the `VideoInfo` of the recording (None for a stream without a recording), and
                the index of the first frame of the batch in the recording.
            frame_is_labeled: (T, B) bool.
        """
        self._predictions.add(preds, video_infos, frame_is_labeled)

    def inference_epoch_end(self, outputs: FramePredictions, mode: str = "val") -> None:
        """Compute mAP from the collected predictions of all ranks, and log the metrics as `<mode>_mean_ap` and so on.

        Args:
            outputs: predictions that this rank collected.
            mode: "val" or "test".

        Raises:
            ValueError: there is no labelled frame to evaluate. This is not an error in Lightning's sanity check, which
                runs only a few batches.
        """
        self.measured = outputs.measure()
        self._start_inference()
        if self.measured is not None:
            known = {key: value for key, value in self.measured.metrics.items() if value is not None}
            self.log_dict({f"{mode}_{key}": value for key, value in known.items()})
            self.log("map", known["mean_ap"], prog_bar=True, logger=False)
        elif not self.trainer.sanity_checking:
            raise ValueError(NOTHING_COUNTS.format(mode))

    def _average_batch_norms(self) -> None:
        """Average all floating point buffers over ranks, so that all ranks validate the same network."""
        if not dist.is_initialized() or dist.get_world_size() == 1:
            return
        buffers = [buffer for buffer in self.buffers() if buffer.is_floating_point()]
        flat = torch.cat([buffer.flatten() for buffer in buffers])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for buffer, mean in zip(buffers, flat.split([b.numel() for b in buffers]), strict=True):
            buffer.copy_(mean.view_as(buffer))

    def _start_inference(self) -> None:
        """Clear the recurrent state and the collected predictions."""
        self.detector.reset_all()
        self._predictions = self.new_predictions()

    on_test_epoch_start = _start_inference

    def new_predictions(self) -> FramePredictions:
        """Make an empty collection of labels and detections, with the classes and the protocol of the model."""
        ids = {name: key for key, name in self.label_map.items()}
        class_ids = [ids[name] for name in self.classes]
        return FramePredictions(dict(zip(class_ids, self.classes, strict=True)), class_ids, self.protocol)

    # Data

    def train_dataloader(self) -> DataLoader:
        """Make the loader of the training split. Inputs are not scaled yet, see `on_after_batch_transfer`."""
        return psee_data(self.config.to_hparams(), "train", keep_dtype=True)

    def val_dataloader(self) -> DataLoader:
        """Make the loader of the validation split. Inputs are not scaled yet, see `on_after_batch_transfer`."""
        return psee_data(self.config.to_hparams(), "val", keep_dtype=True)

    def test_dataloader(self) -> DataLoader:
        """Make the loader of the test split. The loader scales the inputs."""
        return psee_data(self.config.to_hparams(), "test")

    def transfer_batch_to_device(self, batch: dict[str, Any], device: torch.device, dataloader_idx: int) -> dict:
        """Move `inputs` and `mask_keep_memory` to the device.

        The other values stay on the CPU, where Python can read them without synchronizing the device.
        """
        moved = {key: batch[key].to(device, non_blocking=True) for key in ("inputs", "mask_keep_memory")}
        return {**batch, **moved}

    def on_after_batch_transfer(self, batch: dict[str, Any], dataloader_idx: int) -> dict[str, Any]:
        """Scale the inputs on the device. The transfer of uint8 inputs takes a quarter of the bytes of float32."""
        return scale_inputs(batch)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store the label map and the frame size in the checkpoint, because an export needs them."""
        checkpoint["dataset"] = {"label_map": self.label_map, "height": self.height, "width": self.width}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the label map and the frame size from the checkpoint."""
        self.label_map = checkpoint["dataset"]["label_map"]
        self.height, self.width = checkpoint["dataset"]["height"], checkpoint["dataset"]["width"]
        self._predictions = self.new_predictions()

    def demo_video(self, epoch: int = 0, num_batches: int = 100, show_video: bool = False) -> Path:
        """Run the detector on the first batches of the test split, and draw the first stream in `demo_<epoch>.gif`.

        Args:
            epoch: number in the file name.
            num_batches: number of batches to show.
            show_video: also open the file with the default viewer.

        Returns:
            Path of the file. The folder is the trainer's `default_root_dir`, or the working folder without a trainer.
        """
        folder = Path(self.trainer.default_root_dir) if self._trainer is not None else Path.cwd()
        images: list[Tensor] = []
        batches = islice(self.test_dataloader(), num_batches)
        for batch, preds in detect(self.detector, batches, VIDEO_SCORE, self.protocol.nms_thresh, self.device):
            images += draw_stream(batch, preds, self.classes)
        path = save_gif(folder / f"demo_{epoch}.gif", images, delta_t=self.config.data.delta_t)
        if show_video:
            webbrowser.open(path.resolve().as_uri())
        return path

    def _note_size(self, batch: dict[str, Any]) -> None:
        self.height, self.width = batch["inputs"].shape[-2:]


def _shared_weights(model: LightningDetectionModel) -> set[str]:
    """Return the names of all weights and buffers of a model, except those of the last class layer and the loss."""
    rows = f"detector.rpn.cls_head.{len(model.detector.rpn.cls_head) - 1}."
    return {key for key in model.state_dict() if not key.startswith((rows, "detector.criterion."))}

"""The groups of settings, one frozen dataclass each; `Config` in `detector.config.tree` holds them.

Every value is checked when a group is made; an error names the key, the value and what is allowed.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from detector.config.checks import require, require_choice, require_fraction, require_not_negative, require_positive
from detector.config.class_names import check_class_names
from detector.config.extensions import TABLES

__all__ = [
    "AnchorConfig",
    "DataConfig",
    "EvalConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TrackConfig",
    "TrainConfig",
    "TuneConfig",
]

AnchorList = Literal["PSEE_ANCHORS", "COCO_ANCHORS"] | list[tuple[float, float]]
Normalizer = Literal["positives", "ema"]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


def _check_names(group: str, section: Any, *names: str) -> None:
    """Raise a ValueError for the first of the named fields that has no entry of its table and is no import path."""
    for name in names:
        TABLES[f"{group}.{name}"].check(getattr(section, name))


@dataclass(frozen=True)
class DataConfig:
    """The dataset, how its tensors are made, and what of its labels counts.

    Args:
        dataset_path: folder with train/, val/, test/ and label_map_dictionary.json
        preprocess: how events become tensors
        max_incr_per_pixel: events per pixel and bin that saturate a histogram, a difference or an event cube
        num_utbins: micro-bins of a frame in event cubes and stacked histograms
        split_polarity: event cubes have a channel for OFF events; otherwise they count -1
        delta_t: duration of a frame in microseconds
        height: tensor height in pixels; the recording's own if not given
        width: tensor width in pixels; the recording's own if not given
        num_tbins: consecutive frames in a batch
        batch_size: parallel streams of a rank
        num_workers: loader processes of a rank
        classes: names to detect; all of the label map but "empty" if not given
        min_box_diag: smaller box diagonals (network pixels) are dropped
        min_box_side: boxes with a smaller width or height (network pixels) are dropped
        skip_us: microseconds at the start of a stream that do not count in mAP
        interpolation: fill unlabelled training frames with boxes interpolated along tracks
        augment: random flips, zooms and losses of events of training sequences
        reversal: share of augmented training sequences that run backwards in time
        max_faulty_events: part of a recording's events that may be faulty before it is refused; 10 always may, 0: none
        event_format: format of recordings; auto finds it by their content
        label_format: format of the label files beside recordings
    """

    dataset_path: str = ""
    preprocess: str = "histo"
    max_incr_per_pixel: float = 5.0
    num_utbins: int = 3
    split_polarity: bool = True
    delta_t: int = 50_000
    height: int | None = None
    width: int | None = None
    num_tbins: int = 12
    batch_size: int = 4
    num_workers: int = 2
    classes: list[str] = field(default_factory=list)
    min_box_diag: float = 30.0
    min_box_side: float = 10.0
    skip_us: int = 500_000
    interpolation: bool = False
    augment: bool = True
    reversal: float = 0.0
    max_faulty_events: float = 0.001
    event_format: str = "auto"
    label_format: str = "npy"

    def __post_init__(self) -> None:
        _check_names("data", self, "preprocess", "event_format", "label_format")
        require_positive("data", self, "max_incr_per_pixel", "num_utbins", "delta_t", "height", "width")
        require_positive("data", self, "num_tbins", "batch_size")
        require_not_negative("data", self, "num_workers", "min_box_diag", "min_box_side", "skip_us")
        require_fraction("data", self, "reversal", "max_faulty_events")
        require(self.reversal == 0 or self.augment, "data.reversal", self.reversal, "0 without data.augment")
        check_class_names("data.classes", self.classes)
        duplicates = len(set(self.classes)) != len(self.classes)
        require(
            not duplicates and "empty" not in self.classes,
            "data.classes",
            self.classes,
            'distinct names of the label map, without "empty"',
        )


@dataclass(frozen=True)
class ModelConfig:
    """The network.

    Args:
        feature_extractor: backbone
        feature_base: width of the stem
        feature_channels_out: channels of every pyramid level
        first_stride: stride of the first pyramid level: 8 for small objects, else 16
        num_levels: number of pyramid levels, each at twice the stride of the one before
        nlayers: hidden convolutions in the box head
        max_boxes_per_input: boxes of a frame that enter non-maximum suppression
    """

    feature_extractor: str = "Vanilla"
    feature_base: int = 16
    feature_channels_out: int = 256
    first_stride: int = 16
    num_levels: int = 5
    nlayers: int = 0
    max_boxes_per_input: int = 500

    def __post_init__(self) -> None:
        _check_names("model", self, "feature_extractor")
        require_positive("model", self, "feature_base", "feature_channels_out", "first_stride", "num_levels")
        require_positive("model", self, "max_boxes_per_input")
        require_not_negative("model", self, "nlayers")


@dataclass(frozen=True)
class AnchorConfig:
    """Anchor boxes and how labels are assigned to them.

    Args:
        anchor_list: name of a list, or its (ratio = h / w, scale) pairs
        base_size: side in network pixels of the unit anchor of the first level
        fg_iou_threshold: anchors that overlap a box at least this much learn it
        bg_iou_threshold: anchors that overlap every box less than this are background
        allow_low_quality_matches: every box gets at least its best anchor
        variances: scale of the centre and the size offsets
    """

    anchor_list: AnchorList = "PSEE_ANCHORS"
    base_size: float = 32
    fg_iou_threshold: float = 0.5
    bg_iou_threshold: float = 0.3
    allow_low_quality_matches: bool = True
    variances: tuple[float, float] = (0.1, 0.2)

    def __post_init__(self) -> None:
        require_positive("anchors", self, "base_size")
        require_fraction("anchors", self, "fg_iou_threshold", "bg_iou_threshold")
        require_positive("anchors", self, "fg_iou_threshold")
        require(
            self.bg_iou_threshold <= self.fg_iou_threshold,
            "anchors.bg_iou_threshold",
            self.bg_iou_threshold,
            f"at most anchors.fg_iou_threshold ({self.fg_iou_threshold})",
        )
        require(
            len(self.variances) == 2 and min(self.variances) > 0,
            "anchors.variances",
            self.variances,
            "two numbers above 0",
        )
        if isinstance(self.anchor_list, str):
            require_choice("anchors.anchor_list", self.anchor_list, ("PSEE_ANCHORS", "COCO_ANCHORS"))
        else:
            pairs = len(self.anchor_list) > 0 and all(len(p) == 2 and min(p) > 0 for p in self.anchor_list)
            require(pairs, "anchors.anchor_list", self.anchor_list, "(ratio, scale) pairs of numbers above 0")


@dataclass(frozen=True)
class LossConfig:
    """The training loss.

    Args:
        cls_loss_func: classification loss
        box_loss_func: loss of the box offsets
        focal_alpha: weight of the foreground; the background has 1 - focal_alpha
        focal_gamma: focusing exponent
        loc_beta: where the box loss turns from quadratic to linear
        loc_weight: weight of the box loss beside the classification loss
        normalizer: what the losses of a batch are divided by: its number of positive anchors, or an exponential mean of
            that number over batches, which frames without or with few boxes disturb less
    """

    cls_loss_func: str = "softmax_focal_loss"
    box_loss_func: str = "smooth_l1_loss"
    focal_alpha: float = 0.25
    focal_gamma: float = 2.0
    loc_beta: float = 0.11
    loc_weight: float = 1.0
    normalizer: Normalizer = "positives"

    def __post_init__(self) -> None:
        _check_names("loss", self, "cls_loss_func", "box_loss_func")
        require_choice("loss.normalizer", self.normalizer, get_args(Normalizer))
        require_fraction("loss", self, "focal_alpha")
        require_not_negative("loss", self, "focal_gamma", "loc_weight")
        require_positive("loss", self, "loc_beta")


@dataclass(frozen=True)
class OptimConfig:
    """The optimizer and its learning rate.

    Args:
        optimizer: rule by which gradients change the weights
        lr: peak learning rate
        weight_decay: L2 penalty
        lr_scheduler: decay after the warm-up: by a factor per epoch, a cosine over train.max_epochs, or none
        lr_scheduler_step_gamma: the exponential schedule's factor per epoch
        warmup_epochs: epochs of linear warm-up, fractions included
        gradient_clip: largest norm of the gradient; 0 turns clipping off. A `gradient_clip_val` of the trainer wins
    """

    optimizer: str = "adam"
    lr: float = 2e-4
    weight_decay: float = 1e-5
    lr_scheduler: str = "exponential"
    lr_scheduler_step_gamma: float = 0.98
    warmup_epochs: float = 0.0
    gradient_clip: float = 1.0

    def __post_init__(self) -> None:
        require_positive("optim", self, "lr", "lr_scheduler_step_gamma")
        require_not_negative("optim", self, "weight_decay", "warmup_epochs", "gradient_clip")
        _check_names("optim", self, "optimizer", "lr_scheduler")


@dataclass(frozen=True)
class EvalConfig:
    """Decoding for the metric, and which frames count.

    Args:
        score_thresh: detections below this score are dropped
        nms_thresh: of two boxes of a class that overlap more than this, the lower score is dropped
        empty_frames: labelled frames without a box that counts: count charges false detections there; ignore leaves
            them out, as published figures of Gen1 and 1 Mpx do
    """

    score_thresh: float = 0.001
    nms_thresh: float = 0.5
    empty_frames: Literal["count", "ignore"] = "count"

    def __post_init__(self) -> None:
        require_fraction("eval", self, "score_thresh", "nms_thresh")
        require_choice("eval.empty_frames", self.empty_frames, ("count", "ignore"))


@dataclass(frozen=True)
class TrainConfig:
    """One training.

    Args:
        max_epochs: epochs
        precision: arithmetic of the network; auto takes bf16 where the hardware is faster in it
        workers: Ray Train workers (ranks)
        min_workers: workers to go on with where nodes are lost; as many as `workers` if not given
        use_gpu: whether each worker holds a GPU; auto takes one where there is one
        seed: seed of weights, order and augmentation
        val_every: epochs from one validation to the next
        storage: folder or address where runs lie
        max_failures: how often a lost worker is replaced before the run fails
        pretrained: checkpoint to start the weights from
        limit_train_batches: batches (or fraction of them) of a training epoch
        limit_val_batches: batches (or fraction of them) of a validation
    """

    max_epochs: int = 20
    precision: Precision = "auto"
    workers: int = 1
    min_workers: int | None = None
    use_gpu: Literal["auto"] | bool = "auto"
    seed: int = 0
    val_every: int = 1
    storage: str = "runs"
    max_failures: int = 2
    pretrained: str | None = None
    limit_train_batches: int | float | None = None
    limit_val_batches: int | float | None = None

    def __post_init__(self) -> None:
        require_positive("train", self, "max_epochs", "workers", "min_workers", "val_every")
        require_positive("train", self, "limit_train_batches", "limit_val_batches")
        at_most = f"at most train.workers ({self.workers})"
        require((self.min_workers or 1) <= self.workers, "train.min_workers", self.min_workers, at_most)
        require_not_negative("train", self, "seed", "max_failures")
        require_choice("train.precision", self.precision, ("auto", "32-true", "bf16-mixed", "16-mixed"))
        require(self.use_gpu in ("auto", True, False), "train.use_gpu", self.use_gpu, "auto, true or false")


@dataclass(frozen=True)
class TuneConfig:
    """One search.

    Args:
        num_samples: trials
        searcher: how samples are drawn
        scheduler: asha stops weak trials early; pbt lets them take over the weights of strong ones and go on with
            thresholds and rates near theirs; none lets all run to the end
        metric: what is compared
        mode: whether more or less of the metric is better
        against: cost that the metric is weighed against, for a front of detectors instead of one best; less is better
        max_concurrent: trials side by side; auto takes as many as there are CPUs (or GPUs) for
        grace_epochs: validations before a trial can be stopped; with pbt, from one comparison to the next
        reduction_factor: of this many trials one is allowed on to the next rung; with pbt, one gives way to the best
        final_seeds: seeds with which each of the best trials is trained in all; 1 adds none
        final_top_k: how many of the best trials are trained again with further seeds
        space_seed: seed of the sampling
    """

    num_samples: int = 8
    searcher: str = "optuna"
    scheduler: str = "asha"
    metric: str = "val_mean_ap"
    mode: Literal["max", "min"] = "max"
    against: Literal["none", "latency_ms", "parameters"] = "none"
    max_concurrent: Literal["auto"] | int = "auto"
    grace_epochs: int = 1
    reduction_factor: int = 3
    final_seeds: int = 3
    final_top_k: int = 2
    space_seed: int = 0

    def __post_init__(self) -> None:
        require_positive("tune", self, "num_samples", "grace_epochs", "final_seeds", "final_top_k")
        require(self.reduction_factor > 1, "tune.reduction_factor", self.reduction_factor, "a number of at least 2")
        require_choice("tune.against", self.against, ("none", "latency_ms", "parameters"))
        require_choice("tune.mode", self.mode, ("max", "min"))
        concurrent = self.max_concurrent
        require(
            concurrent == "auto" or (isinstance(concurrent, int) and concurrent > 0),
            "tune.max_concurrent",
            concurrent,
            "auto or a number above 0",
        )


@dataclass(frozen=True)
class TrackConfig:
    """Where runs and models are recorded.

    Args:
        tracking_uri: MLflow server or database; a SQLite file in the working folder if not given
        experiment: MLflow experiment
        registered_model_name: name in the model registry
    """

    tracking_uri: str | None = None
    experiment: str = "evforge"
    registered_model_name: str = "evforge-detector"

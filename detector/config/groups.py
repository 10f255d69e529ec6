"""The groups of settings, one frozen dataclass each; `Config` in `detector.config.tree` holds them.

Every value is checked when a group is made; an error names the key, the value and what is allowed.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args, get_origin

from detector.config.checks import Range, require, require_choice
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

POSITIVE, NOT_NEGATIVE, FRACTION = Range(above=0), Range(least=0), Range(least=0, most=1)


def _leaf(default: Any, allowed: Range) -> Any:
    """A leaf whose numbers must be in a range."""
    return field(default=default, metadata={"range": allowed})


@dataclass(frozen=True)
class Group:
    """A group of leaves, each checked by its table, its choices or its range."""

    name: ClassVar[str]

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name

    def __post_init__(self) -> None:
        for leaf in fields(self):
            key, value = f"{self.name}.{leaf.name}", getattr(self, leaf.name)
            if key in TABLES:
                TABLES[key].check(value)
            elif get_origin(leaf.type) is Literal:
                require_choice(key, value, get_args(leaf.type))
            elif "range" in leaf.metadata:
                leaf.metadata["range"].check(key, value)


@dataclass(frozen=True)
class DataConfig(Group, name="data"):
    """The dataset: how its tensors are made, and which of its labels count.

    Args:
        dataset_path: folder with train/, val/, test/ and label_map_dictionary.json
        preprocess: how events become tensors
        max_incr_per_pixel: events per pixel and bin that saturate a histogram, a difference or an event cube
        num_utbins: micro-bins per frame of event cubes and stacked histograms
        split_polarity: event cubes have a channel for OFF events; otherwise they count -1
        delta_t: duration of a frame in microseconds
        height: tensor height in pixels; that of the recording if not given
        width: tensor width in pixels; that of the recording if not given
        num_tbins: consecutive frames in a batch
        batch_size: parallel streams per rank
        num_workers: loader processes per rank
        classes: names to detect; all of the label map but "empty" if not given
        min_box_diag: smaller box diagonals (network pixels) are dropped
        min_box_side: boxes with a smaller width or height (network pixels) are dropped
        skip_us: microseconds at the start of a stream that do not count in mAP
        interpolation: fill unlabelled training frames with boxes interpolated along tracks
        augment: randomly flip, zoom and drop events of training sequences
        reversal: share of augmented training sequences that run backwards in time
        max_faulty_events: share of faulty events above which a recording is refused; 10 always pass, with 0 none
        event_format: format of recordings; auto finds it by their content
        label_format: format of the label files beside recordings
    """

    dataset_path: str = ""
    preprocess: str = "histo"
    max_incr_per_pixel: float = _leaf(5.0, POSITIVE)
    num_utbins: int = _leaf(3, POSITIVE)
    split_polarity: bool = True
    delta_t: int = _leaf(50_000, POSITIVE)
    height: int | None = _leaf(None, POSITIVE)
    width: int | None = _leaf(None, POSITIVE)
    num_tbins: int = _leaf(12, POSITIVE)
    batch_size: int = _leaf(4, POSITIVE)
    num_workers: int = _leaf(2, NOT_NEGATIVE)
    classes: list[str] = field(default_factory=list)
    min_box_diag: float = _leaf(30.0, NOT_NEGATIVE)
    min_box_side: float = _leaf(10.0, NOT_NEGATIVE)
    skip_us: int = _leaf(500_000, NOT_NEGATIVE)
    interpolation: bool = False
    augment: bool = True
    reversal: float = _leaf(0.0, FRACTION)
    max_faulty_events: float = _leaf(0.001, FRACTION)
    event_format: str = "auto"
    label_format: str = "npy"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reversal == 0 or self.augment, "data.reversal", self.reversal, "0 without data.augment")
        check_class_names("data.classes", self.classes)
        duplicates = len(set(self.classes)) != len(self.classes)
        allowed = 'distinct names of the label map, without "empty"'
        require(not duplicates and "empty" not in self.classes, "data.classes", self.classes, allowed)


@dataclass(frozen=True)
class ModelConfig(Group, name="model"):
    """The network.

    Args:
        feature_extractor: backbone
        feature_base: width of the stem
        feature_channels_out: channels of every pyramid level
        first_stride: stride of the first pyramid level: 8 for small objects, else 16
        num_levels: number of pyramid levels, each at twice the stride of the one before
        nlayers: hidden convolutions of the box head
        max_boxes_per_input: boxes per frame that enter non-maximum suppression
    """

    feature_extractor: str = "Vanilla"
    feature_base: int = _leaf(16, POSITIVE)
    feature_channels_out: int = _leaf(256, POSITIVE)
    first_stride: int = _leaf(16, POSITIVE)
    num_levels: int = _leaf(5, POSITIVE)
    nlayers: int = _leaf(0, NOT_NEGATIVE)
    max_boxes_per_input: int = _leaf(500, POSITIVE)


@dataclass(frozen=True)
class AnchorConfig(Group, name="anchors"):
    """Anchor boxes, and how labels are assigned to them.

    Args:
        anchor_list: name of a list, or (ratio = h / w, scale) pairs
        base_size: side in network pixels of the unit anchor of the first level
        fg_iou_threshold: anchors that overlap a box at least this much are positive
        bg_iou_threshold: anchors that overlap every box less than this are background
        allow_low_quality_matches: every box has at least one positive anchor
        variances: scale of the centre and the size offsets
    """

    anchor_list: AnchorList = "PSEE_ANCHORS"
    base_size: float = _leaf(32, POSITIVE)
    fg_iou_threshold: float = _leaf(0.5, Range(above=0, most=1))
    bg_iou_threshold: float = _leaf(0.3, FRACTION)
    allow_low_quality_matches: bool = True
    variances: tuple[float, float] = (0.1, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        bg, fg, variances = self.bg_iou_threshold, self.fg_iou_threshold, self.variances
        require(bg <= fg, "anchors.bg_iou_threshold", bg, f"at most anchors.fg_iou_threshold ({fg})")
        variances_ok = len(variances) == 2 and min(variances) > 0
        require(variances_ok, "anchors.variances", variances, "two numbers above 0")
        if isinstance(self.anchor_list, str):
            require_choice("anchors.anchor_list", self.anchor_list, ("PSEE_ANCHORS", "COCO_ANCHORS"))
        else:
            pairs = len(self.anchor_list) > 0 and all(len(p) == 2 and min(p) > 0 for p in self.anchor_list)
            require(pairs, "anchors.anchor_list", self.anchor_list, "(ratio, scale) pairs of numbers above 0")


@dataclass(frozen=True)
class LossConfig(Group, name="loss"):
    """The training loss.

    Args:
        cls_loss_func: classification loss
        box_loss_func: loss of the box offsets
        focal_alpha: weight of the foreground; the background has 1 - focal_alpha
        focal_gamma: focusing exponent
        loc_beta: error at which the box loss turns from quadratic to linear
        loc_weight: weight of the box loss relative to the classification loss
        normalizer: divisor of the losses of a batch: its number of positive anchors, or an exponential mean of that
            number over batches, which varies less where many frames have few boxes
    """

    cls_loss_func: str = "softmax_focal_loss"
    box_loss_func: str = "smooth_l1_loss"
    focal_alpha: float = _leaf(0.25, FRACTION)
    focal_gamma: float = _leaf(2.0, NOT_NEGATIVE)
    loc_beta: float = _leaf(0.11, POSITIVE)
    loc_weight: float = _leaf(1.0, NOT_NEGATIVE)
    normalizer: Literal["positives", "ema"] = "positives"


@dataclass(frozen=True)
class OptimConfig(Group, name="optim"):
    """The optimizer and its learning rate.

    Args:
        optimizer: rule by which gradients change the weights
        lr: peak learning rate
        weight_decay: L2 penalty
        lr_scheduler: decay after the warm-up: by a factor per epoch, a cosine over train.max_epochs, or none
        lr_scheduler_step_gamma: the exponential schedule's factor per epoch
        warmup_epochs: epochs of linear warm-up; may be a fraction
        gradient_clip: largest norm of the gradient; 0 turns clipping off. A `gradient_clip_val` of the trainer wins
    """

    optimizer: str = "adam"
    lr: float = _leaf(2e-4, POSITIVE)
    weight_decay: float = _leaf(1e-5, NOT_NEGATIVE)
    lr_scheduler: str = "exponential"
    lr_scheduler_step_gamma: float = _leaf(0.98, POSITIVE)
    warmup_epochs: float = _leaf(0.0, NOT_NEGATIVE)
    gradient_clip: float = _leaf(1.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class EvalConfig(Group, name="eval"):
    """Decoding for the metric, and which frames count.

    Args:
        score_thresh: detections below this score are dropped
        nms_thresh: of two boxes of a class that overlap more than this, the lower score is dropped
        empty_frames: labelled frames without a box that counts: count includes their false positives; ignore leaves
            these frames out, as published results of Gen1 and 1 Mpx do
    """

    score_thresh: float = _leaf(0.001, FRACTION)
    nms_thresh: float = _leaf(0.5, FRACTION)
    empty_frames: Literal["count", "ignore"] = "count"


@dataclass(frozen=True)
class TrainConfig(Group, name="train"):
    """One training.

    Args:
        max_epochs: number of epochs
        precision: arithmetic of the network; auto: bf16 where it is faster on this hardware
        workers: Ray Train workers (ranks)
        min_workers: smallest number of workers to continue with where nodes are lost; `workers` if not given
        use_gpu: give each worker a GPU; auto: if there are GPUs
        seed: seed of weights, order and augmentation
        val_every: epochs between validations
        storage: folder where runs are stored
        max_failures: number of times that a lost worker is replaced before the run fails
        pretrained: checkpoint with the initial weights
        limit_train_batches: number (or fraction) of batches per training epoch
        limit_val_batches: number (or fraction) of batches per validation
    """

    max_epochs: int = _leaf(20, POSITIVE)
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    workers: int = _leaf(1, POSITIVE)
    min_workers: int | None = _leaf(None, POSITIVE)
    use_gpu: Literal["auto"] | bool = "auto"
    seed: int = _leaf(0, NOT_NEGATIVE)
    val_every: int = _leaf(1, POSITIVE)
    storage: str = "runs"
    max_failures: int = _leaf(2, NOT_NEGATIVE)
    pretrained: str | None = None
    limit_train_batches: int | float | None = _leaf(None, POSITIVE)
    limit_val_batches: int | float | None = _leaf(None, POSITIVE)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most = f"at most train.workers ({self.workers})"
        require((self.min_workers or 1) <= self.workers, "train.min_workers", self.min_workers, at_most)
        require(self.use_gpu in ("auto", True, False), "train.use_gpu", self.use_gpu, "auto, true or false")


@dataclass(frozen=True)
class TuneConfig(Group, name="tune"):
    """One search.

    Args:
        num_samples: number of trials
        searcher: how samples are drawn
        scheduler: asha stops weak trials early; pbt lets them continue from the weights of strong ones with similar
            thresholds and rates; none lets all run to the end
        metric: metric that ranks the trials
        mode: whether a larger (max) or smaller (min) metric is better
        against: cost to minimise beside the metric, for a Pareto front of detectors instead of one best
        max_concurrent: trials that run at a time; auto: as many as there are CPUs (or GPUs)
        grace_epochs: validations before a trial can be stopped; with pbt, between two comparisons
        reduction_factor: one in this many trials continues at each rung; with pbt, one in this many is replaced
        final_seeds: number of seeds with which each of the best trials is trained; 1 adds no training
        final_top_k: how many of the best trials are trained again with further seeds
        space_seed: seed of the sampling
    """

    num_samples: int = _leaf(8, POSITIVE)
    searcher: str = "optuna"
    scheduler: str = "asha"
    metric: str = "val_mean_ap"
    mode: Literal["max", "min"] = "max"
    against: Literal["none", "latency_ms", "parameters"] = "none"
    max_concurrent: Literal["auto"] | int = _leaf("auto", POSITIVE)
    grace_epochs: int = _leaf(1, POSITIVE)
    reduction_factor: int = _leaf(3, Range(least=2))
    final_seeds: int = _leaf(3, POSITIVE)
    final_top_k: int = _leaf(2, POSITIVE)
    space_seed: int = 0


@dataclass(frozen=True)
class TrackConfig(Group, name="track"):
    """Where runs and models are recorded.

    Args:
        tracking_uri: MLflow server or database; a SQLite file in the working folder if not given
        experiment: MLflow experiment
        registered_model_name: name in the model registry
    """

    tracking_uri: str | None = None
    experiment: str = "evforge"
    registered_model_name: str = "evforge-detector"

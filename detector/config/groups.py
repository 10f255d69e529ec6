"""The groups of settings, one frozen dataclass each; `Config` in `detector.config.tree` holds them.

Every value is checked when a group is made. An error names the key, the value and what is allowed.
"""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, get_args, get_origin

from detector.config.checks import Range, require, require_choice
from detector.config.class_names import check_class_names
from detector.config.credentials import hide_password
from detector.config.extensions import TABLES

__all__ = [
    "DEFAULT_DATA",
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
    """Return the dataclass field of a setting with this default value. Numbers must be in the range `allowed`."""
    return field(default=default, metadata={"range": allowed})


@dataclass(frozen=True)
class Group:
    """Base class of a group of leaves (single settings), which are checked when the group is created.

    A leaf is checked by one of these: the extension table of its key, its `Literal` type, or the range of its field.
    """

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
    """The dataset: how events become tensors, and which labels are used.

    Args:
        dataset_path: folder with train/, val/, test/ and label_map_dictionary.json
        preprocess: how events become tensors
        max_incr_per_pixel: number of events at which a pixel of a histogram, difference or event cube saturates
        num_utbins: number of micro-bins (time intervals) per frame of event cubes and stacked histograms
        split_polarity: event cubes have separate channels for OFF events; if false, an OFF event counts as -1
        delta_t: duration of a frame in microseconds
        height: tensor height in pixels; by default the height of the recording
        width: tensor width in pixels; by default the width of the recording
        num_tbins: number of consecutive frames per stream in a batch
        batch_size: number of streams (recordings that are read in parallel) per rank
        num_workers: number of data loader processes per rank
        classes: names of the classes to detect; by default all names of the label map except "empty"
        min_box_diag: boxes with a smaller diagonal are dropped, in pixels of the network's input
        min_box_side: boxes with a smaller width or height are dropped, in pixels of the network's input
        skip_us: number of microseconds at the start of each recording that mAP ignores
        interpolation: fill unlabelled training frames with boxes interpolated along tracks
        augment: augment training sequences with random flips, zooms and dropped events
        reversal: share of augmented training sequences that run backwards in time
        max_faulty_events: largest accepted share of faulty events in a recording; 0 accepts none; with any larger
            value, at least 10 faulty events are accepted
        event_format: format of recordings; auto detects the format from the content of a file
        event_columns: order of the columns of a table of events without names, such as t,x,y,p; by default found from
            the values
        label_format: format of the label files, which are in the folders of the recordings; auto detects it
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
    event_columns: str | None = None
    label_format: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.reversal == 0 or self.augment, "data.reversal", self.reversal, "0 without data.augment")
        check_class_names("data.classes", self.classes)
        duplicates = len(set(self.classes)) != len(self.classes)
        allowed = 'distinct names of the label map, without "empty"'
        require(not duplicates and "empty" not in self.classes, "data.classes", self.classes, allowed)


DEFAULT_DATA = DataConfig()


@dataclass(frozen=True)
class ModelConfig(Group, name="model"):
    """The network.

    Args:
        feature_extractor: backbone
        feature_base: output channels of the first convolution
        feature_channels_out: channels of every pyramid level
        first_stride: stride of the first pyramid level: 16, or 8 for small objects
        num_levels: number of pyramid levels; the stride doubles from level to level
        nlayers: number of hidden convolutions of the box head
        max_boxes_per_input: largest number of boxes per frame that enter non-maximum suppression
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
        anchor_list: name of an anchor list, or (ratio = h / w, scale) pairs
        base_size: side of the anchor with ratio 1 and scale 1 on the first level, in pixels of the network's input
        fg_iou_threshold: an anchor is positive if its IoU with a box is at least this
        bg_iou_threshold: an anchor is background if its IoU with every box is below this
        allow_low_quality_matches: assign at least one positive anchor to every box
        variances: divisor of the offsets of the centre, and divisor of the offsets of width and height
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
        focal_alpha: weight of foreground anchors; background anchors have the weight 1 - focal_alpha
        focal_gamma: focusing exponent
        loc_beta: error at which the box loss changes from quadratic to linear
        loc_weight: weight of the box loss relative to the classification loss
        normalizer: divisor of the losses; positives: number of positive anchors of the batch; ema: moving average of
            this number, which varies less if many frames have few boxes
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
        optimizer: optimization algorithm
        lr: peak learning rate
        weight_decay: L2 penalty
        lr_scheduler: decay of the learning rate; exponential: by a factor per epoch; cosine: from the end of the
            warm-up to 0 at train.max_epochs; none: no decay
        lr_scheduler_step_gamma: factor per epoch of the exponential schedule
        warmup_epochs: number of epochs of linear warm-up; may be a fraction
        gradient_clip: largest gradient norm; 0 disables clipping; `gradient_clip_val` of the trainer has priority
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
    """Thresholds for detections in the evaluation, and which frames are evaluated.

    Args:
        score_thresh: detections with this score or a lower score are dropped
        nms_thresh: if the IoU of two boxes of a class exceeds this, the box with the lower score is dropped
        empty_frames: labelled frames without an evaluated box; count: all detections in them are false positives;
            ignore: they are left out, as in published results of Gen1 and 1 Mpx
    """

    score_thresh: float = _leaf(0.001, FRACTION)
    nms_thresh: float = _leaf(0.5, FRACTION)
    empty_frames: Literal["count", "ignore"] = "count"


@dataclass(frozen=True)
class TrainConfig(Group, name="train"):
    """The training.

    Args:
        max_epochs: number of epochs
        precision: numeric precision of the network; auto: bf16 if it is faster on this hardware
        workers: number of Ray Train workers (ranks)
        min_workers: smallest number of workers with which training continues if nodes are lost; by default all workers
        use_gpu: whether each worker uses a GPU; auto: yes if there are GPUs
        seed: random seed of the initial weights, the order of the data and the augmentation
        val_every: number of epochs from one validation to the next
        storage: folder where runs are stored
        max_failures: number of times that a lost worker is replaced before the run fails
        pretrained: checkpoint with the initial weights
        limit_train_batches: number of batches per training epoch, or fraction of all batches; by default all
        limit_val_batches: number of batches per validation, or fraction of all batches; by default all
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
    """The hyperparameter search.

    Args:
        num_samples: number of trials
        searcher: algorithm that chooses the settings of trials
        scheduler: asha: stop weak trials early; pbt: continue weak trials with the weights of strong trials and similar
            settings; none: run all trials to the end
        metric: metric that ranks the trials
        mode: whether a larger (max) or smaller (min) metric is better
        against: cost that is minimised in addition to the metric; the result is a Pareto front of detectors
        max_concurrent: number of trials that run at the same time; auto: as many as the CPUs (or GPUs) allow
        grace_epochs: asha: number of validations before a trial can be stopped; pbt: number of validations between two
            comparisons of the trials
        reduction_factor: asha: one in this many trials continues after each comparison; pbt: one in this many trials
            is replaced
        final_seeds: number of seeds with which each of the best trials is trained; 1: no additional training
        final_top_k: number of best trials that are trained again with further seeds
        space_seed: random seed of the sampler
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
        tracking_uri: address of an MLflow server or database; by default a SQLite file in the working folder; a
            password in the address is moved to the environment variable MLFLOW_TRACKING_PASSWORD
        experiment: name of the MLflow experiment
        registered_model_name: name of the model in the MLflow model registry
    """

    tracking_uri: str | None = None
    experiment: str = "evforge"
    registered_model_name: str = "evforge-detector"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracking_uri is not None:
            object.__setattr__(self, "tracking_uri", hide_password(self.tracking_uri))

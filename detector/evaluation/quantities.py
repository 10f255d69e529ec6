"""Number of labels of a split that enter each metric. Needs no detector."""

from pathlib import Path

from detector.config import Config
from detector.data.label_map import LABEL_MAP_NAME, class_names, read_label_map
from detector.data.sequence_file import OpenFile
from detector.data_factory import psee_data
from detector.evaluation.collector import NOTHING_COUNTS, Protocol

__all__ = ["label_counts"]


def label_counts(config: Config, split: str) -> dict[str, int]:
    """Count the labels of a split that enter each metric of `CocoEvaluator.accumulate`.

    Args:
        config: configuration, which defines the dataset and the evaluation protocol (such as the smallest box).
        split: "val" or "test".

    Returns:
        Dict from the name of each metric to the number of labels.

    Raises:
        ValueError: the split has no labelled frame that can be evaluated.
    """
    dataset = psee_data(config.with_overrides({"data.num_workers": 0}).to_hparams(), split).dataset.dataset
    ids = {name: key for key, name in read_label_map(Path(config.data.dataset_path) / LABEL_MAP_NAME).items()}
    classes = {ids[name]: name for name in class_names(config.data)}
    evaluator = Protocol.of(config).evaluator(classes, dataset.shape[-2:])
    for file in dataset.files:
        info = OpenFile(file).info
        evaluator.partial_eval([info.labels], [info.labels[:0]], [info.frames])
    if not any(recording.num_frames for recording in evaluator.recordings):
        raise ValueError(NOTHING_COUNTS.format(Path(config.data.dataset_path) / split))
    return evaluator.quantities()

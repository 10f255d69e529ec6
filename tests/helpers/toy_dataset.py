"""A dataset of tensor files that a tiny detector learns in seconds: textured blocks that move, stop and move on."""

import json
from pathlib import Path

import h5py
import numpy as np

from detector.events import BBOX_dtype
from detector.labels import save_labels

TOY_SETTINGS = {
    "data.num_tbins": 5,
    "data.batch_size": 2,
    "data.num_workers": 0,
    "data.min_box_diag": 0,
    "data.min_box_side": 0,
    "data.skip_us": 0,
    "model.first_stride": 8,
    "model.num_levels": 2,
    "anchors.base_size": 16,
    "optim.lr": 5e-3,
    "train.precision": "32-true",
}
"""Settings for this dataset, without the width of the network and the length of the training."""

TINY = {
    **TOY_SETTINGS,
    "data.augment": False,
    "model.feature_base": 2,
    "model.feature_channels_out": 8,
    "train.max_epochs": 2,
}
"""A detector that learns something in a second."""

HEIGHT, WIDTH, DELTA_T = 64, 96, 50_000
SIZES = {0: (20, 20), 1: (14, 32)}  # class id: width, height


def write_toy_dataset(
    folder: Path, counts: dict[str, int], num_frames: int = 60, shuffled: bool = False, seed: int = 0
) -> Path:
    """Write `counts[split]` recordings per split; with `shuffled`, the labels do not depend on the frames."""
    (folder).mkdir(parents=True, exist_ok=True)
    (folder / "label_map_dictionary.json").write_text(json.dumps({"0": "block", "1": "tower"}))
    for split, count in counts.items():
        (folder / split).mkdir()
        for index in range(count):
            rng = np.random.default_rng([seed, sum(map(ord, split)), index])
            data, labels = _record(rng, num_frames)
            if shuffled:
                labels["x"] = rng.uniform(0, WIDTH - labels["w"])
                labels["y"] = rng.uniform(0, HEIGHT - labels["h"])
                labels["class_id"] = rng.permutation(labels["class_id"])
            _write(folder / split / f"rec{index}", data, labels)
    return folder


def _record(rng: np.random.Generator, num_frames: int) -> tuple[np.ndarray, np.ndarray]:
    data = (rng.random((num_frames, 2, HEIGHT, WIDTH)) < 0.01).astype(np.uint8)
    rows = []
    for track, class_id in enumerate(SIZES):
        w, h = SIZES[class_id]
        x = rng.uniform(0, WIDTH - w)
        y = rng.uniform(0, HEIGHT - h)
        vx = rng.choice([-1, 1]) * rng.uniform(2, 4)
        phase = rng.integers(0, 12)
        for k in range(num_frames):
            moves = (k + phase) % 12 < 7 or k == 0
            if moves:
                if not 0 <= x + vx <= WIDTH - w:
                    vx = -vx
                x += vx
                left, top = round(x), round(y)
                block = np.indices((h, w)).sum(0) % 2 if class_id else np.ones((h, w), int)
                data[k, :, top : top + h, left : left + w] += (3 * block[: HEIGHT - top]).astype(np.uint8)
            rows.append(((k + 1) * DELTA_T, x, y, w, h, class_id, track, 1.0))
    labels = np.array(sorted(rows), dtype=BBOX_dtype)
    return np.minimum(data, 5), labels


def _write(stem: Path, data: np.ndarray, labels: np.ndarray) -> None:
    with h5py.File(stem.with_suffix(".h5"), "w") as file:
        dataset = file.create_dataset("data", data=data)
        dataset.attrs.update(
            preprocess="histo",
            max_incr_per_pixel=5.0,
            delta_t=DELTA_T,
            event_input_height=HEIGHT,
            event_input_width=WIDTH,
            first_t=0,
        )
    save_labels(stem.with_name(stem.name + "_bbox.npy"), labels)

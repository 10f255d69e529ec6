import gc
import json
import os
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from waiting import wait_for

from detector.config import Config
from detector.data.dataset import scale_inputs
from detector.data_factory import psee_data
from detector.events.types import BBOX_dtype

HEIGHT, WIDTH, DELTA_T = 24, 32, 50_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset folder with recordings of 20, 9 and 33 random frames to train on."""
    (tmp_path / "label_map_dictionary.json").write_text(json.dumps({"0": "pedestrian", "1": "car"}))
    (tmp_path / "train").mkdir()
    for index, length in enumerate((20, 9, 33)):
        frames = np.random.default_rng(length).integers(0, 6, (length, 2, HEIGHT, WIDTH), dtype=np.uint8)
        with h5py.File(tmp_path / "train" / f"rec{index}.h5", "w") as file:
            file["data"] = frames
        rows = [((k + 1) * DELTA_T, 2, 4, 10, 12, k % 2, k % 2, 1) for k in range(length)]
        np.save(tmp_path / "train" / f"rec{index}_bbox.npy", np.array(rows, BBOX_dtype))
    return tmp_path


def settings(folder: Path, **leaves) -> Namespace:
    small = {"num_tbins": 4, "batch_size": 2, "num_workers": 0, "min_box_diag": 0, "min_box_side": 0}
    overrides = {f"data.{key}": value for key, value in {"dataset_path": str(folder), **small, **leaves}.items()}
    return Config().with_overrides(overrides).to_hparams()


def batches(loader, epochs: int = 2) -> list[dict]:
    found = []
    for epoch in range(epochs):
        loader.sampler.set_epoch(epoch)
        found += list(loader)
    return found


def assert_same(ours: list[dict], others: list[dict]) -> None:
    assert len(ours) == len(others) > 0
    for one, other in zip(ours, others, strict=True):
        assert one.keys() == other.keys()
        for key in ("inputs", "mask_keep_memory", "frame_is_labeled"):
            assert torch.equal(one[key], other[key])
        for mine, theirs in zip(one["labels"], other["labels"], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
        for (info, start), (other_info, other_start) in zip(one["video_infos"], other["video_infos"], strict=True):
            assert start == other_start
            assert (info and info[:-1]) == (other_info and other_info[:-1])


def test_batches_do_not_depend_on_the_number_of_workers(folder):
    in_process = psee_data(settings(folder), "train")
    expected = batches(in_process)
    assert len(expected) == 2 * len(in_process) == 2 * 8  # 5 + 2 + 8 chunks on 2 streams
    assert_same(expected, batches(in_process))
    for num_workers in (1, 2, 3):
        assert_same(expected, batches(psee_data(settings(folder, num_workers=num_workers), "train")))
    first, second = expected[:8], expected[8:]
    assert not all(torch.equal(a["inputs"], b["inputs"]) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_counts_are_divided_on_arrival(folder, num_workers: int):
    expected = batches(psee_data(settings(folder), "train"))
    found = batches(psee_data(settings(folder, num_workers=num_workers), "train", keep_dtype=True))
    assert {batch["inputs"].dtype for batch in found} == {torch.uint8}
    assert {batch["divisor"] for batch in found} == {5}
    assert_same(expected, [scale_inputs(batch) for batch in found])


def test_an_epoch_that_was_left_early_starts_anew(folder):
    loader = psee_data(settings(folder, num_workers=2), "train")
    expected = batches(loader, 1)
    loader.sampler.set_epoch(1)
    next(iter(loader))
    assert_same(expected, batches(loader, 1))


def test_memory_is_used_again_only_when_nobody_has_it(folder):
    loader = psee_data(settings(folder), "train")
    places = [batch["inputs"].data_ptr() for batch in loader]
    assert len(set(places)) <= 3
    kept = [batch["inputs"][0, 0, 0] for batch in loader]
    assert len({part.data_ptr() for part in kept}) == len(kept)


def test_a_frame_that_cannot_be_read_stops_a_loader_with_one_line(folder):
    loader = psee_data(settings(folder, num_workers=1, augment=False), "train")
    for path in (folder / "train").glob("*.h5"):
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size // 2)
    with pytest.raises(ValueError, match=r"rec\d.h5: ") as error:
        batches(loader)
    assert "\n" not in str(error.value)


def open_descriptors(folder: Path) -> tuple[int, int]:
    """Numbers of this process: open files of the folder and pipes, and parts of memory that it shares with others.

    Other tests may have left threads that open sockets and files.
    """
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            targets.append(os.readlink(descriptor))
    opened = sum(target.startswith((str(folder), "pipe:")) for target in targets)
    return opened, Path("/proc/self/maps").read_text().count("/dev/shm/")


@pytest.mark.skipif(not Path("/proc/self/maps").is_file(), reason="counts what Linux shows")
@pytest.mark.parametrize(("num_workers", "epochs"), [(0, 30), (2, 5)])
def test_no_epoch_leaves_anything_open(folder, num_workers: int, epochs: int):
    gc.collect()
    before = open_descriptors(folder)
    loader = psee_data(settings(folder, num_workers=num_workers), "train")
    batches(loader, 2)
    during = open_descriptors(folder)
    batches(loader, epochs)
    assert open_descriptors(folder) == during
    del loader
    gc.collect()

    def is_closed() -> bool:
        after = open_descriptors(folder)
        # multiprocessing's resource tracker stays; the threads of its queues end a little later than the loader
        return after[0] <= before[0] + (1 if num_workers else 0) and after[1] <= before[1]

    wait_for(is_closed, 300)


def test_loading_leaves_the_global_random_state_alone(folder):
    before = torch.get_rng_state()
    batches(psee_data(settings(folder), "train"))
    assert torch.equal(torch.get_rng_state(), before)

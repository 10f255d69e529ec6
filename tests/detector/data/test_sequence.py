import pickle
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from detector.data import sequence
from detector.data.sequence import LaneStep, SequenceDataset, SequenceFile, StepSampler, eval_plan, train_plan
from detector.data.targets import TargetLoader
from detector.events.types import BBOX_dtype

HEIGHT, WIDTH, DELTA_T = 4, 6, 10
LENGTHS = [23, 7, 2, 40, 11]
TARGETS = TargetLoader(np.array([1]), 5, min_box_diag=0, interpolation=False)


def write_file(folder: Path, index: int, data: np.ndarray, labels: np.ndarray, divisor: float = 1) -> SequenceFile:
    path = folder / f"rec{index}.h5"
    with h5py.File(path, "w") as file:
        file["data"] = data
    np.save(folder / f"rec{index}_bbox.npy", labels)
    sizes = dict(zip(("num_frames", "channels", "height", "width"), data.shape, strict=True))
    return SequenceFile(
        path, folder / f"rec{index}_bbox.npy", **sizes, divisor=divisor, first_t=0, delta_t=DELTA_T, scale=1
    )


@pytest.fixture
def files(tmp_path: Path) -> list[SequenceFile]:
    """Frame k of file f holds 50 * f + k + 1 everywhere; every second frame is labelled, with a box as wide as k."""
    found = []
    for index, length in enumerate(LENGTHS):
        data = np.arange(1, length + 1, dtype=np.uint8)[:, None, None, None] + np.uint8(50 * index)
        rows = [((k + 1) * DELTA_T, 0, 0, 1 + k % 5, 2, 0, 0, 1) for k in range(0, length, 2)]
        data = np.broadcast_to(data, (length, 2, HEIGHT, WIDTH))
        found.append(write_file(tmp_path, index, data, np.array(rows, BBOX_dtype), divisor=2))
    return found


def served(steps: list[list[LaneStep]]) -> list[tuple[int, int]]:
    return sorted((step.file, step.start) for lane in steps for step in lane if step.file is not None)


@pytest.mark.parametrize("num_lanes", [1, 2, 6, 40])
def test_train_plan_serves_every_chunk_once_in_equal_lanes(num_lanes: int):
    lengths_of_lanes = set()
    for epoch in range(10):
        plan = train_plan(LENGTHS, 5, num_lanes, seed=3, epoch=epoch)
        lengths_of_lanes |= {len(lane) for lane in plan}
        chunks = served(plan)
        for file, length in enumerate(LENGTHS):
            starts = [start for index, start in chunks if index == file]
            assert len(starts) == max(1, length // 5)
            assert starts == list(range(starts[0], starts[0] + 5 * len(starts), 5))
            assert -5 < starts[0] <= length % 5
            assert starts[-1] < length
    num_chunks = 4 + 1 + 1 + 8 + 2
    assert lengths_of_lanes == {-(-num_chunks // num_lanes)}


def test_train_plan_resets_where_a_lane_begins_or_changes_its_file():
    for lane in train_plan(LENGTHS, 5, 3, seed=0, epoch=1):
        assert lane[0].reset
        assert lane[0].segment == 0
        for before, step in pairwise(lane):
            goes_on = step.file is not None and step.file == before.file
            assert step.reset is not goes_on
            if goes_on:
                assert step.start == before.start + 5
                assert step.segment == before.segment
            elif step.file is not None:
                assert step.segment == before.segment + 1


def test_train_plan_follows_from_seed_and_epoch():
    plan = train_plan(LENGTHS, 5, 2, seed=3, epoch=1)
    assert plan == train_plan(LENGTHS, 5, 2, seed=3, epoch=1)
    assert plan != train_plan(LENGTHS, 5, 2, seed=3, epoch=2)
    assert plan != train_plan(LENGTHS, 5, 2, seed=4, epoch=1)


def test_files_come_in_another_order_every_epoch():
    orders = {tuple(step.file for step in train_plan([5] * 8, 5, 1, seed=0, epoch=epoch)[0]) for epoch in range(5)}
    assert len(orders) == 5
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(8))}


@pytest.mark.parametrize(
    ("length", "phases"),
    [(40, {-4, -3, -2, -1, 0}), (42, {-2, -1, 0, 1, 2}), (7, {0, 1, 2}), (5, {0}), (2, {0})],
)
def test_every_phase_comes_up_where_the_file_is_long_enough(length: int, phases: set[int]):
    assert {train_plan([length], 5, 1, seed=0, epoch=epoch)[0][0].start for epoch in range(60)} == phases


def test_one_long_file_serves_all_lanes():
    plan = train_plan([100], 5, 4, seed=0, epoch=0)
    first = plan[0][0].start
    assert [lane[0] for lane in plan] == [LaneStep(0, first + start, True, 0) for start in (0, 25, 50, 75)]


def test_eval_plan_streams_whole_files_longest_first():
    assert eval_plan([5, 12, 3], 4, 2) == [
        [LaneStep(1, 0, True, 0), LaneStep(1, 4, False, 0), LaneStep(1, 8, False, 0)],
        [LaneStep(0, 0, True, 0), LaneStep(0, 4, False, 0), LaneStep(2, 0, True, 1)],
    ]
    assert eval_plan([9], 4, 2)[1] == [LaneStep(None, 0, True, 0)] * 3


def ranks(files: list[SequenceFile], world_size: int, batch_size: int, **kwargs) -> list[SequenceDataset]:
    return [
        SequenceDataset(files, TARGETS, batch_size, rank=rank, world_size=world_size, **kwargs)
        for rank in range(world_size)
    ]


def seen_frames(datasets: list[SequenceDataset], epoch: int = 0) -> list[tuple[str, int, float, bool]]:
    """(name, frame, value, labelled) of every frame inside a file, in the order of ranks, streams and steps."""
    seen = []
    for dataset in datasets:
        batches = [dataset[epoch, step] for step in range(len(dataset))]
        for b in range(dataset.batch_size):
            for batch in batches:
                info, start = batch["video_infos"][b]
                for t in range(5):
                    values = batch["inputs"][t, b].unique().tolist()
                    assert len(values) == 1
                    if info is not None and 0 <= start + t < info.num_frames:
                        seen.append((info.name, start + t, values[0], bool(batch["frame_is_labeled"][t, b])))
                    else:
                        assert values == [0]
                        assert not batch["frame_is_labeled"][t, b]
                        assert len(batch["labels"][t][b]) == 0
    return seen


@pytest.mark.parametrize(("world_size", "batch_size", "streams"), [(1, 2, 2), (3, 4, 2), (1, 9, 5)])
def test_evaluation_serves_every_frame_once_and_in_order(files, world_size: int, batch_size: int, streams: int):
    datasets = ranks(files, world_size, batch_size, train=False)
    assert {dataset.batch_size for dataset in datasets} == {streams}
    assert len({len(dataset) for dataset in datasets}) == 1
    seen = seen_frames(datasets)
    assert len(seen) == sum(LENGTHS)
    for index, length in enumerate(LENGTHS):
        own = [row[1:] for row in seen if row[0] == f"rec{index}"]
        assert own == [(k, (50 * index + k + 1) / 2, k % 2 == 0) for k in range(length)]


def test_training_on_three_ranks_serves_every_frame_of_the_plan_once(files):
    datasets = ranks(files, 3, 2, train=True, seed=1)
    assert len({len(dataset) for dataset in datasets}) == 1
    for epoch in range(2):
        seen = seen_frames(datasets, epoch)
        plan = train_plan(LENGTHS, 5, 6, seed=1, epoch=epoch)
        inside = [(f, k) for f, start in served(plan) for k in range(start, start + 5) if 0 <= k < LENGTHS[f]]
        assert sorted((int(name[3:]), k) for name, k, _, _ in seen) == inside
        assert len(set(inside)) == len(inside)
        assert all(value == (50 * int(name[3:]) + k + 1) / 2 for name, k, value, _ in seen)
        assert all(labeled is (k % 2 == 0) for _, k, _, labeled in seen)


def test_a_batch_holds_what_the_interface_says(files):
    dataset = SequenceDataset(files[:2], TARGETS, 3, train=False)
    batch = dataset[0, 0]
    assert batch["inputs"].shape == (5, 2, 2, HEIGHT, WIDTH)
    assert batch["inputs"].dtype == torch.float32
    assert batch["inputs"].is_contiguous()
    assert [boxes.tolist() for boxes in batch["labels"][2]] == [[[0, 0, 3, 2, 1]]] * 2
    assert batch["mask_keep_memory"].tolist() == [0, 0]
    assert batch["frame_is_labeled"].tolist() == [[True] * 2, [False] * 2, [True] * 2, [False] * 2, [True] * 2]
    info, start = batch["video_infos"][1]
    assert start == 0
    assert info[:8] == (str(files[1].path), "rec1", 0, DELTA_T, 7, HEIGHT, WIDTH, 1)
    assert info.labels["t"].tolist() == [10, 30, 50, 70]
    assert dataset[0, 1]["mask_keep_memory"].tolist() == [1, 1]
    padded = dataset[0, 2]
    assert padded["mask_keep_memory"].tolist() == [1, 0]
    assert padded["video_infos"][1] == (None, 0)


def test_labels_of_an_evaluated_video_are_scaled(tmp_path):
    rows = [(10, 4, 2, 4, 4, 0, 0, 1), (10, 0, 0, 4, 4, 1, 0, 1)]
    file = write_file(tmp_path, 0, np.zeros((5, 2, HEIGHT, WIDTH), np.float32), np.array(rows, BBOX_dtype))
    half = SequenceFile(**{**vars(file), "scale": 0.5})
    batch = SequenceDataset([half], TARGETS, 1, train=False)[0, 0]
    info, _ = batch["video_infos"][0]
    assert info.labels.tolist() == [(10, 2, 1, 2, 2, 0, 0, 1), (10, 0, 0, 2, 2, 1, 0, 1)]
    assert info.scale == 0.5
    assert batch["labels"][0][0].tolist() == [[2, 1, 4, 3, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
def test_augmentation_stays_the_same_along_a_stream_and_boxes_follow(tmp_path, dtype):
    data = np.zeros((40, 2, 48, 64), dtype)
    data[:, :, 20:32, 24:44] = 3
    labels = np.array([((k + 1) * DELTA_T, 24, 20, 20, 12, 0, 0, 1) for k in range(40)], BBOX_dtype)
    file = write_file(tmp_path, 0, data, labels)
    dataset = SequenceDataset([file], TARGETS, 2, train=True, augment=True)
    shown = set()
    for epoch in range(8):
        streams: list[set] = [set(), set()]
        for step in range(len(dataset)):
            batch = dataset[epoch, step]
            for t, b in batch["frame_is_labeled"].nonzero().tolist():
                rows, columns = batch["inputs"][t, b, 0].nonzero(as_tuple=True)
                pixels = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                assert (batch["labels"][t][b][0, :4] - pixels).abs().max() <= 1
                streams[b].add(tuple(pixels.tolist()))
        assert [len(stream) for stream in streams] == [1, 1]
        shown |= streams[0] | streams[1]
    assert len(shown) > 5


def test_open_files_are_bounded_and_do_not_travel(files):
    def open_handles() -> int:
        return h5py.h5f.get_obj_count(h5py.h5f.OBJ_ALL, h5py.h5f.OBJ_FILE)

    before = open_handles()
    dataset = SequenceDataset(files, TARGETS, 2, train=True)
    for step in range(len(dataset)):
        last = dataset[0, step]
        assert open_handles() - before <= 2
    copy = pickle.loads(pickle.dumps(dataset))
    assert open_handles() - before <= 2
    assert torch.equal(copy[0, len(dataset) - 1]["inputs"], last["inputs"])


def test_a_forked_process_opens_files_of_its_own(files, monkeypatch):
    opened = []
    monkeypatch.setattr(sequence.h5py, "File", lambda *args, real=h5py.File: opened.append(args[0]) or real(*args))
    dataset = SequenceDataset(files, TARGETS, 1, train=False)
    for _ in range(2):
        dataset[0, 0]
    assert opened == [files[3].path]
    monkeypatch.setattr(sequence.os, "getpid", lambda: -1)
    dataset[0, 0]
    assert opened == [files[3].path] * 2


def test_targets_travel_between_processes_as_one_array(files):
    labels = SequenceDataset(files, TARGETS, 3, train=False)[0, 0]["labels"]
    arrived = pickle.loads(pickle.dumps(labels))
    assert type(arrived) is list
    assert [[boxes.tolist() for boxes in frame] for frame in arrived] == [
        [b.tolist() for b in frame] for frame in labels
    ]


def test_sampler_yields_the_steps_of_its_epoch(files):
    sampler = StepSampler(SequenceDataset(files, TARGETS, 8, train=True))
    assert list(sampler) == [(0, 0), (0, 1)]
    sampler.set_epoch(4)
    assert list(sampler) == [(4, 0), (4, 1)]
    assert len(sampler) == 2


def test_frames_that_cannot_be_read_name_the_file(tmp_path):
    path = tmp_path / "rec0.h5"
    with h5py.File(path, "w") as file:
        noise = np.random.default_rng(0).integers(0, 255, (5, 2, 64, 64), np.uint8)
        file.create_dataset("data", data=noise, chunks=(1, 2, 64, 64), compression="gzip", fletcher32=True)
        offset = file["data"].id.get_chunk_info(2).byte_offset
    with path.open("r+b") as raw:
        raw.seek(offset + 100)
        raw.write(b"\xff" * 100)
    np.save(tmp_path / "rec0_bbox.npy", np.zeros(0, BBOX_dtype))
    file = SequenceFile(path, tmp_path / "rec0_bbox.npy", 5, 2, 64, 64, 1, 0, DELTA_T, 1)
    with pytest.raises(ValueError, match=r"rec0.h5: frames 0 to 4 cannot be read"):
        SequenceDataset([file], TARGETS, 1, train=False)[0, 0]

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from detector.config.groups import DataConfig
from detector.data.dataset import SequenceDataset, StepSampler, scale_inputs
from detector.data.schedule import RowStep, train_plan
from detector.data.sequence_file import SequenceFile
from detector.data.targets import TargetLoader
from detector.events.types import BBOX_dtype
from detector.preprocess.representation import representation_of

HEIGHT, WIDTH, DELTA_T = 4, 6, 10
LENGTHS = [23, 7, 2, 40, 11]
TARGETS = TargetLoader(np.array([1]), 5, min_box_diag=0, interpolation=False)
HISTO, DIFF, TIMESURFACE = (representation_of(DataConfig(preprocess=name)) for name in ("histo", "diff", "timesurface"))


def write_file(folder: Path, index: int, data: np.ndarray, labels: np.ndarray, divisor: float = 1) -> SequenceFile:
    path = folder / f"rec{index}.h5"
    with h5py.File(path, "w") as file:
        file["data"] = data
    np.save(folder / f"rec{index}_bbox.npy", labels)
    sizes = dict(zip(("num_frames", "channels", "height", "width"), data.shape, strict=True))
    return SequenceFile(
        path,
        folder / f"rec{index}_bbox.npy",
        **sizes,
        divisor=divisor,
        first_t=0,
        delta_t=DELTA_T,
        scale=1,
        dtype=data.dtype.name,
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


def served(steps: list[list[RowStep]]) -> list[tuple[int, int]]:
    return sorted((step.file, step.start) for row in steps for step in row if step.file is not None)


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
def test_augmentation_stays_the_same_along_a_stream_and_boxes_follow(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr("detector.data.augment.DROPOUT_PROBABILITY", 0)
    data = np.zeros((40, 2, 48, 64), dtype)
    data[:, :, 20:32, 24:44] = 3
    labels = np.array([((k + 1) * DELTA_T, 24, 20, 20, 12, 0, 0, 1) for k in range(40)], BBOX_dtype)
    file = write_file(tmp_path, 0, data, labels)
    dataset = SequenceDataset([file], TARGETS, 2, train=True, augment=HISTO)
    shown = set()
    for epoch in range(8):
        streams: list[set] = [set(), set()]
        for step in range(len(dataset)):
            batch = dataset[epoch, step]
            for t, b in batch["frame_is_labeled"].nonzero().tolist():
                rows, columns = batch["inputs"][t, b, 0].nonzero(as_tuple=True)
                if rows.numel():  # an empty frame after the file's first, met backwards
                    pixels = torch.tensor([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
                    assert (batch["labels"][t][b][0, :4] - pixels).abs().max() <= 1
                    streams[b].add(tuple(pixels.tolist()))
        assert [len(stream) for stream in streams] == [1, 1]
        shown |= streams[0] | streams[1]
    assert len(shown) > 5


def no_other_augmentation(monkeypatch):
    for name in ("FLIP", "ZOOM", "DROPOUT"):
        monkeypatch.setattr(f"detector.data.augment.{name}_PROBABILITY", 0)


def test_backwards_a_stream_is_served_last_to_first_with_polarities_swapped(tmp_path, monkeypatch):
    no_other_augmentation(monkeypatch)
    data = np.zeros((10, 2, HEIGHT, WIDTH), np.uint8)
    data[:, 0], data[:, 1] = (np.arange(10)[:, None, None] + offset for offset in (1, 101))
    rows = [((k + 1) * DELTA_T, 0, 0, 1 + k % 5, 2, 0, k, 1) for k in range(10)]
    file = write_file(tmp_path, 0, data, np.array(rows, BBOX_dtype))
    dataset = SequenceDataset([file], TARGETS, 1, train=True, augment=HISTO, reversal=1)
    epoch = next(e for e in range(50) if dataset.row_steps(e)[0][-1].start == 0)
    assert [step[1:] for step in dataset.row_steps(epoch)[0]] == [(5, True, 0, True), (0, False, 0, True)]
    first, second = (dataset[epoch, step] for step in range(2))
    assert [batch["mask_keep_memory"].tolist() for batch in (first, second)] == [[0], [1]]
    frames = torch.cat([first["inputs"], second["inputs"]])[:, 0]
    assert frames[:, 0].amax((1, 2)).tolist() == [110, 109, 108, 107, 106, 105, 104, 103, 102, 101]
    assert frames[:, 1].amin((1, 2)).tolist() == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    # Frame 9 ends, backwards, where it starts: at the label of frame 8. Nothing is labelled where frame 0 starts.
    labeled = torch.cat([first["frame_is_labeled"], second["frame_is_labeled"]])[:, 0].tolist()
    assert labeled == [True] * 9 + [False]
    widths = [boxes[0][0, 2].item() for boxes in [*first["labels"], *second["labels"]][:9]]
    assert widths == [1 + k % 5 for k in (8, 7, 6, 5, 4, 3, 2, 1, 0)]


def test_backwards_signed_values_change_their_sign(tmp_path, monkeypatch):
    no_other_augmentation(monkeypatch)
    data = np.full((5, 1, HEIGHT, WIDTH), 0.5, np.float32)
    file = write_file(tmp_path, 0, data, np.zeros(0, BBOX_dtype))
    dataset = SequenceDataset([file], TARGETS, 1, train=True, augment=DIFF, reversal=1)
    assert dataset[0, 0]["inputs"].unique().tolist() == [-0.5]
    forward = SequenceDataset([file], TARGETS, 1, train=True, augment=TIMESURFACE, reversal=1)
    assert forward[0, 0]["inputs"].unique().tolist() == [0.5]


def test_dropout_is_the_same_whenever_a_batch_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("detector.data.augment.DROPOUT_PROBABILITY", 1)
    data = np.full((20, 2, HEIGHT, WIDTH), 5, np.uint8)
    file = write_file(tmp_path, 0, data, np.zeros(0, BBOX_dtype))
    one, other = (SequenceDataset([file], TARGETS, 1, train=True, augment=HISTO) for _ in range(2))
    steps = range(len(one))
    batches = {step: one[0, step]["inputs"] for step in steps}
    assert all(torch.equal(other[0, step]["inputs"], batches[step]) for step in reversed(steps))
    assert not torch.equal(batches[0][0], batches[0][1])
    assert not torch.equal(one[1, 0]["inputs"], batches[0])


def test_files_of_different_types_meet_as_float32(tmp_path):
    counts = write_file(tmp_path, 0, np.full((6, 2, HEIGHT, WIDTH), 4, np.uint8), np.zeros(0, BBOX_dtype), divisor=5)
    half = write_file(tmp_path, 1, np.full((5, 2, HEIGHT, WIDTH), 0.25, np.float16), np.zeros(0, BBOX_dtype))
    dataset = SequenceDataset([counts, half], TARGETS, 2, train=False)
    assert (dataset.dtype, dataset.divisor) == (np.float32, 1)
    inputs = dataset[0, 0]["inputs"]
    assert inputs[:, 0].unique().tolist() == [np.float32(0.8)]
    assert inputs[:, 1].unique().tolist() == [0.25]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float16])
def test_inputs_are_divided_where_they_are(dtype):
    values = torch.arange(6, dtype=dtype).reshape(1, 1, 1, 2, 3)
    out = torch.full(values.shape, torch.nan)
    scaled = scale_inputs({"inputs": values, "divisor": 5, "rest": 1}, out)
    assert scaled.keys() == {"inputs", "rest"}
    assert scaled["inputs"] is out
    assert torch.equal(out, torch.arange(6).reshape(values.shape) / 5)
    assert values.flatten().tolist() == list(range(6))
    assert torch.equal(scale_inputs({"inputs": values, "divisor": 5})["inputs"], out)
    assert scale_inputs(scaled) is scaled


class OnAnotherDevice(torch.Tensor):
    """Values in this process's memory that claim to be on another device, as on machines with a GPU."""

    is_cpu = False


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("divisor", [5, 1])
def test_integers_on_another_device_are_divided_too(monkeypatch, dtype, divisor):
    monkeypatch.setattr("detector.data.dataset._divide", lambda *_: pytest.fail("the loop of the CPU was called"))
    values = torch.arange(6, dtype=dtype).reshape(1, 1, 1, 2, 3)
    scaled = scale_inputs({"inputs": values.as_subclass(OnAnotherDevice), "divisor": divisor})
    assert scaled["inputs"].dtype == torch.float32
    assert torch.equal(scaled["inputs"], torch.arange(6).reshape(values.shape) / divisor)
    assert scale_inputs({"inputs": values.to("meta"), "divisor": divisor})["inputs"].is_meta


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

import json

import numpy as np
import pytest
import torch
from numpy.lib.recfunctions import structured_to_unstructured
from small_detector import LABEL_MAP, export_small
from streams import SENSOR, blob_events, chunks_of

from detector.config import Config
from detector.config.extensions import REPRESENTATIONS
from detector.data.builder.dataset import build_dataset
from detector.data.dataset import scale_inputs
from detector.data_factory import psee_data
from detector.events import BBOX_dtype, open_events, write_dat
from detector.export.bundle import load_exported
from detector.inference import predictor as module
from detector.inference.predictor import Predictor
from detector.labels import save_labels
from detector.preprocess.representation import representation_of

DELTA_T = 100_000
HEIGHT, WIDTH = SENSOR[0] // 2, SENSOR[1] // 2
SENSOR_SIZE = {"height": SENSOR[0], "width": SENSOR[1]}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return export_small(tmp_path_factory.mktemp("exported"), HEIGHT, WIDTH, delta_t=DELTA_T)


def make_loader(folder, **leaves):
    """A recording, and the loader of the tensors that a build makes of it."""
    (folder / "test").mkdir()
    recording = folder / "test" / "street_td.dat"
    write_dat(recording, blob_events(), *SENSOR)
    save_labels(folder / "test" / "street_bbox.npy", np.array([(2_000_000, 4, 4, 9, 9, 3, 0, 1)], BBOX_dtype))
    settings = {"delta_t": DELTA_T, "height": HEIGHT, "width": WIDTH, "num_tbins": 5, "num_workers": 0, **leaves}
    config = Config().with_overrides({f"data.{name}": value for name, value in settings.items()})
    label_map = {key: name for key, name in LABEL_MAP.items() if name != "empty"}
    build_dataset([recording], folder / "dataset", config.data, label_map=label_map)
    config = config.with_overrides({"data.dataset_path": str(folder / "dataset")})
    return recording, psee_data(config.to_hparams(), "test")


def assert_same(ours, others, exactly=False):
    assert [boxes.size for boxes in ours] == [boxes.size for boxes in others]
    for boxes, expected in zip(ours, others, strict=True):
        for name in ("t", "class_id", "track_id"):
            np.testing.assert_array_equal(boxes[name], expected[name])
        values, wanted = (
            structured_to_unstructured(b[["x", "y", "w", "h", "class_confidence"]]) for b in (boxes, expected)
        )
        np.testing.assert_allclose(values, wanted, rtol=0, atol=0 if exactly else 1e-3)


def test_boxes_are_those_of_the_loader_and_the_model(tmp_path, exported):
    recording, loader = make_loader(tmp_path)
    model, info, _ = load_exported(exported, "cpu")
    expected = []
    for batch in loader:
        model.reset(batch["mask_keep_memory"])
        ((video, start),) = batch["video_infos"]
        rows = model.detect(batch["inputs"], info["score_thresh"], info["nms_thresh"], info["max_boxes_per_input"])
        for t in range(min(5, video.num_frames - start)):
            end = video.first_t + (start + t + 1) * video.delta_t
            ids = {1: 3, 2: 0}  # car is label 1, walker label 2
            expected.append(
                np.array(
                    [(end, *(2 * np.float32(r[:4])), ids[int(r[5])], 0, r[4]) for r in rows[t][0].tolist()], BBOX_dtype
                )
            )
    with open_events(recording) as events:
        found = list(Predictor(exported, num_tbins=5)(events))
    assert len(found) == 20 and found[0]["t"][0] == 1_300_000 and found[-1]["t"][0] == 3_200_000
    assert set(np.concatenate(found)["class_id"]) == {0, 3}
    assert found[3].size != found[12].size  # the blob matters
    assert_same(found, expected, exactly=True)


class Recorder:
    """Keeps what a network would have been given."""

    def __init__(self):
        self.inputs = []

    def reset_all(self):
        self.inputs.clear()

    def detect(self, x, score_thresh, nms_thresh, max_boxes):
        self.inputs.append(x.clone())
        return [[torch.zeros(0, 6)] * x.shape[1]] * x.shape[0]


@pytest.mark.parametrize(
    "leaves",
    [*({"preprocess": name} for name in REPRESENTATIONS), {"preprocess": "event_cube", "split_polarity": False}],
    ids=str,
)
def test_frames_are_those_of_the_build(tmp_path, monkeypatch, exported, leaves):
    recording, loader = make_loader(tmp_path, **leaves)
    info = json.loads((exported / "info_ssd_jit.json").read_text())
    data = Config().with_overrides({f"data.{name}": value for name, value in leaves.items()}).data
    representation = representation_of(data)
    info |= {
        "preprocess": data.preprocess,
        "preprocess_params": dict(representation.parameters),
        "normalisation": {"divisor_of_counts": representation.divisor},
        "in_channels": representation.channels,
    }
    network = Recorder()
    monkeypatch.setattr(module, "load_exported", lambda *_: (network, info, torch.device("cpu")))
    with open_events(recording) as events:
        assert len(list(Predictor("unused")(events))) == 20
    expected = torch.cat([batch["inputs"] for batch in loader])
    assert expected.abs().sum() > 0
    assert torch.equal(torch.cat(network.inputs), expected[:20])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"in_channels": 5}, "info_ssd_jit.json: channels is 5, allowed by data.preprocess histo: 2"),
        ({"preprocess_params": {"tau": 3}}, "info_ssd_jit.json: tau is 3, allowed by data.preprocess histo: None"),
    ],
)
def test_an_export_of_another_representation_is_refused(monkeypatch, exported, changes, message):
    info = json.loads((exported / "info_ssd_jit.json").read_text()) | changes
    monkeypatch.setattr(module, "load_exported", lambda *_: (Recorder(), info, torch.device("cpu")))
    with pytest.raises(ValueError, match=message):
        Predictor("unused")


@pytest.mark.parametrize("lengths", [[1009], [1, 0, 7, 4999]])
def test_a_live_stream_gives_the_boxes_of_the_recording(tmp_path, exported, lengths):
    write_dat(tmp_path / "a.dat", blob_events(), *SENSOR)
    predictor = Predictor(exported, **SENSOR_SIZE)
    with open_events(tmp_path / "a.dat") as events:
        whole = list(predictor(events))
    assert_same(list(predictor(chunks_of(blob_events(), lengths))), whole, exactly=True)


@pytest.mark.parametrize("num_tbins", [3, 20])
def test_the_number_of_frames_at_once_changes_no_box(exported, num_tbins):
    one, several = (Predictor(exported, num_tbins=n, **SENSOR_SIZE)([blob_events()]) for n in (1, num_tbins))
    one = list(one)
    assert len(one) == 20
    assert_same(list(several), one)


def test_memory_is_carried_and_a_stream_starts_without(exported):
    predictor, events = Predictor(exported, **SENSOR_SIZE), blob_events()
    whole, again = list(predictor([events])), list(predictor([events]))
    assert_same(again, whole, exactly=True)
    (alone,) = predictor([events[(events["t"] >= 2_000_000) & (events["t"] < 2_100_000)]])
    assert alone["t"][0] == whole[8]["t"][0] == 2_100_000
    assert alone["class_confidence"][0] != whole[8]["class_confidence"][0]


def test_streams_side_by_side_are_as_each_alone(exported):
    predictor = Predictor(exported, num_tbins=3, **SENSOR_SIZE)
    streams = [blob_events(), blob_events(1, 7_000_000, 7_640_000), blob_events(2, 50_000, 1_000_000)]
    alone = [list(predictor([events])) for events in streams]
    steps = list(predictor.frames([chunks_of(events, [777]) for events in streams]))
    assert [len(frames) for frames in alone] == [20, 7, 11]
    assert [[frame is not None for frame in step] for step in steps] == [[True, k < 7, k < 11] for k in range(20)]
    for b, expected in enumerate(alone):
        assert_same([step[b].boxes for step in steps if step[b] is not None], expected)
    assert [frame.t for frame in steps[0]] == [1_300_000, 7_100_000, 100_000]


def test_tensors_of_num_tbins_frames_are_held(monkeypatch, exported):
    given = []
    monkeypatch.setattr(module, "scale_inputs", lambda batch: (given.append(batch["inputs"]), scale_inputs(batch))[1])
    steps = Predictor(exported, num_tbins=3, **SENSOR_SIZE).frames([chunks_of(blob_events(), [500])], histograms=True)
    pictures = [frame.histogram for (frame,) in steps]
    assert [tuple(tensors.shape) for tensors in given] == [(3, 1, 2, HEIGHT, WIDTH)] * 6 + [(2, 1, 2, HEIGHT, WIDTH)]
    assert len({tensors.data_ptr() for tensors in given}) == 1
    assert len({picture.ctypes.data for picture in pictures}) == 3


def test_histograms_count_the_events_of_their_frame(exported):
    predictor = Predictor(exported, **SENSOR_SIZE)
    events = blob_events(count=300)
    for (frame,) in predictor.frames([[events]], histograms=True):
        within = events[(events["t"] >= frame.t - DELTA_T) & (events["t"] < frame.t)]
        expected = np.zeros((2, HEIGHT, WIDTH), int)
        np.add.at(expected, (within["p"], within["y"] // 2, within["x"] // 2), 1)
        np.testing.assert_array_equal(frame.histogram, expected.clip(max=5))


def test_score_threshold_and_classes(exported):
    predictor = Predictor(exported, score_thresh=0.52, **SENSOR_SIZE)
    assert predictor.classes == {3: "car", 0: "walker"}
    assert predictor.delta_t == DELTA_T
    boxes = np.concatenate(list(predictor([blob_events()])))
    assert boxes.size and boxes["class_confidence"].min() > 0.52
    assert Predictor(exported).score_thresh == 0.45


def test_sensors_of_other_sizes(exported):
    assert Predictor(exported).downsampling(*SENSOR) == 1
    assert Predictor(exported).downsampling(HEIGHT, WIDTH) == 0
    assert Predictor(exported, downsampling=2).downsampling(*SENSOR) == 2
    allowed = "trained on frames of 48 x 64, allowed: 0 for 100 x 132, 1 for 50 x 66, 2 for 25 x 33"
    for downsampling in (None, 3):
        with pytest.raises(
            ValueError, match=f"downsampling: got {downsampling} for a sensor of 100 x 132, .*{allowed}"
        ):
            Predictor(exported, downsampling=downsampling, height=100, width=132)([blob_events()])


def test_streams_that_do_not_fit_each_other(tmp_path, exported):
    write_dat(tmp_path / "a.dat", blob_events(), *SENSOR)
    predictor = Predictor(exported, downsampling=0, height=112, width=128)
    with (
        open_events(tmp_path / "a.dat") as events,
        pytest.raises(ValueError, match=r"streams: got frames of .*\(96, 128\), \(112, 128\)"),
    ):
        predictor.frames([events, [blob_events()]])


def test_a_second_stream_ends_the_first(exported):
    predictor = Predictor(exported, **SENSOR_SIZE)
    first, second = predictor([blob_events()]), predictor([blob_events()])
    next(first), next(second)
    with pytest.raises(ValueError, match="predictor: got another stream in the meantime, allowed: streams together"):
        next(first)
    assert len(list(second)) == 19


def test_chunks_need_the_size_of_the_sensor(exported):
    with pytest.raises(ValueError, match="height, width: got none, allowed: the sensor's size"):
        Predictor(exported)([blob_events()])
    with pytest.warns(UserWarning, match="events: .* outside the sensor .dropped."):
        list(Predictor(exported, height=48, width=64)([blob_events()]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"score_thresh": 1.5}, "score_thresh: got 1.5, allowed: a number from 0 to 1"),
        ({"num_tbins": 0}, "num_tbins: got 0, allowed: at least 1"),
        ({"downsampling": -1}, "downsampling: got -1, allowed: 0 to 4"),
    ],
)
def test_arguments_out_of_range(exported, arguments, message):
    with pytest.raises(ValueError, match=message):
        Predictor(exported, **arguments)


def test_an_info_file_that_lacks_something(tmp_path, exported):
    for name in ("model.ptjit", "info_ssd_jit.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    info = json.loads((exported / "info_ssd_jit.json").read_text())
    del info["delta_t"]
    (tmp_path / "info_ssd_jit.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="info_ssd_jit.json lacks 'delta_t', export the model again"):
        Predictor(tmp_path)


def test_arguments_at_their_limits(exported):
    assert [Predictor(exported, score_thresh=value).score_thresh for value in (0, 1)] == [0, 1]
    assert Predictor(exported, downsampling=4).downsampling(96, 128) == 4
    for arguments in ({"downsampling": 5}, {"score_thresh": -0.1}):
        with pytest.raises(ValueError, match="allowed: "):
            Predictor(exported, **arguments)
    for arguments in ({"height": 96}, {"width": 128}):
        with pytest.raises(ValueError, match="height, width: got none"):
            Predictor(exported, **arguments)([blob_events()])
    assert Predictor(exported, **SENSOR_SIZE).sensor_size([]) == SENSOR

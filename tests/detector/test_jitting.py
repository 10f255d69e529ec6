import hashlib
import json

import pytest
from small_detector import PARAMS, small_net

from detector import jitting
from detector.jitting import INFO_NAME, SSD, export_ssd


@pytest.fixture(scope="module")
def detector():
    return small_net(variances=(0.2, 0.3))


@pytest.fixture(scope="module")
def exported(detector, tmp_path_factory):
    return export_ssd(SSD(detector), PARAMS, tmp_path_factory.mktemp("export"), nms_thresh=0.5, score_thresh=0.3)


def test_info_says_how_to_feed_the_model(exported):
    info = json.loads((exported.parent / INFO_NAME).read_text())
    assert info["sha256"] == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert (info["in_channels"], info["height"], info["width"], info["delta_t"]) == (2, 64, 96, 50_000)
    assert info["strides"] == [8, 16] and info["variances"] == [0.2, 0.3] and info["classes"] == ["a", "b"]
    assert info["label_map"] == {"0": "a", "3": "b"} and len(info["anchor_list"]) == 6
    assert not list(exported.parent.glob("*.part"))


def test_names():
    assert jitting.MODEL_NAME == "model.ptjit" and INFO_NAME == "info_ssd_jit.json"

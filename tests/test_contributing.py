"""The examples of CONTRIBUTING work as they are printed."""

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from repository import ROOT
from small_detector import clip

from detector.config import Config
from detector.config.groups import OptimConfig
from detector.data.layouts import find_layout
from detector.events import BBOX_dtype, EventCD, open_events
from detector.labels import load_labels
from detector.lightning_model import build_ssd
from detector.optim.learning_rate import rate_factor
from detector.optim.optimizers import build_optimizer
from detector.preprocess.representation import representation_of

TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text()
(IMPORTS,) = re.findall(r"```python\n(import .*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def printed():
    """The examples, by the names of their files."""
    return dict(re.findall(r"```python\n# (mylab/\w+\.py)\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture(scope="module", autouse=True)
def package(printed, tmp_path_factory):
    """They become a package; its name is not that of the tests' own one."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "printed").mkdir()
    for name, text in printed.items():
        (folder / name.replace("mylab", "printed")).write_text(IMPORTS + text)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


def test_each_kind_takes_about_ten_lines(printed):
    names = "formats", "forms", "layouts", "losses", "nets", "representations", "search", "training"
    assert set(printed) == {f"mylab/{name}.py" for name in names}
    lines = {name: [line for line in text.splitlines() if line.strip()] for name, text in printed.items()}
    assert max(map(len, lines.values())) <= 11


def test_backbone_representation_and_losses_make_a_detector():
    config = Config().with_overrides(
        {
            "data.classes": ["car"],
            "data.preprocess": "printed.representations:activity",
            "model.feature_extractor": "printed.nets:Plain",
            "model.num_levels": 1,
            "model.feature_channels_out": 8,
            "loss.cls_loss_func": "printed.losses:entropy",
            "loss.box_loss_func": "printed.losses:l1",
        }
    )
    frames = representation_of(config.data).empty(1, 1, 64, 96)
    representation_of(config.data).fill(np.array([(3, 2, 1, 10)], EventCD), frames, 100)
    assert frames.sum() == frames[0, 0, 2, 3] == 1
    detector = build_ssd(config)
    targets = [[torch.tensor([[8.0, 8.0, 40.0, 40.0, 1.0]])] * 2] * 3
    losses = detector.compute_loss(clip(3, 2)[:, :, :1], targets, torch.ones(2))
    assert losses["cls_loss"] > 0 and losses["loc_loss"] > 0
    torch.jit.script(detector.feature_extractor)


def test_optimizer_and_schedule():
    optim = OptimConfig(optimizer="printed.training:momentum", lr=0.5, lr_scheduler="printed.training:linear")
    optimizer = build_optimizer([torch.nn.Parameter(torch.zeros(1))], optim)
    assert optimizer.defaults["momentum"] == 0.9 and optimizer.defaults["lr"] == 0.5
    assert rate_factor(optim, 3, 4) == 0.25


def test_sampler_and_scheduler():
    from evforge.search.policies.tables import make_sampler, make_scheduler

    config = Config().with_overrides(
        {"tune.searcher": "printed.search:corners", "tune.scheduler": "printed.search:patient"}
    )
    space = SimpleNamespace(domains={"optim.lr": SimpleNamespace(extremes=[0.1, 0.2])})
    assert make_sampler(config, space) == [{"optim.lr": 0.1}]
    assert make_scheduler(config, space)._max_t == config.train.max_epochs


def test_export_form(tmp_path):
    from small_detector import PARAMS, small_ssd

    from detector.export.bundle import load_exported
    from detector.jitting import export_ssd

    ssd = small_ssd()
    export_ssd(ssd, PARAMS, tmp_path, 0.5, 0.3, form="printed.forms:PICKLE")
    loaded, info, _ = load_exported(tmp_path, "cpu")
    assert info["form"] == "printed.forms:PICKLE"
    with torch.no_grad():
        assert torch.equal(loaded(clip(1, 1), -1.0)[0][0], ssd(clip(1, 1), -1.0)[0][0])


def test_layout(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.raw").touch()
    layout = find_layout("printed.layouts:OURS")
    (source,) = layout.find(tmp_path)
    assert (source.split, source.stem, source.labels) == ("val", "a", tmp_path / "val" / "a.json")


def test_event_and_label_format(tmp_path):
    np.savez(tmp_path / "a.npz", x=[1, 2], y=[3, 4], p=[0, 1], t=[5, 6])
    with open_events(tmp_path / "a.npz", 8, 8, event_format="printed.formats:read_npz") as reader:
        assert reader.read().tolist() == [(1, 3, 0, 5), (2, 4, 1, 6)]
    (tmp_path / "a_boxes.txt").write_text("9,1,2,3,4,0,7,1\n")
    boxes = load_labels(tmp_path / "a_boxes.txt", label_format="printed.formats:TEXT")
    assert boxes.tolist() == np.array([(9, 1, 2, 3, 4, 0, 7, 1)], BBOX_dtype).tolist()

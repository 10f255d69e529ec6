import shutil
import subprocess

import pytest
import torch
from repository import ROOT
from small_detector import HEIGHT, PARAMS, WIDTH, clip, small_ssd

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import load_torchscript
from detector.jitting import export_ssd

SOURCE = ROOT / "tests" / "cpp"
STEPS, SCORE, NMS, MAX_BOXES = 3, 0.45, 0.5, 500

pytestmark = pytest.mark.skipif(
    shutil.which("cmake") is None or not any(map(shutil.which, ("c++", "g++", "clang++"))),
    reason="needs cmake and a C++ compiler",
)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    build = tmp_path_factory.mktemp("cpp")
    for command in (
        ["cmake", "-S", SOURCE, "-B", build, f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"],
        ["cmake", "--build", build],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return build / "detect"


@pytest.fixture(scope="module")
def ssd():
    return small_ssd()


@pytest.fixture(scope="module", params=[("torchscript", "float32"), ("torchscript-int8", "bf16")], ids="-".join)
def exported(ssd, request, tmp_path_factory):
    form, precision = request.param
    if EXPORT_FORMS[form].missing(precision):
        pytest.skip(f"{form} in {precision} does not run on this processor")
    folder = tmp_path_factory.mktemp("exported")
    return export_ssd(ssd, PARAMS, folder, NMS, SCORE, form=form, precision=precision), precision


def boxes_of(detector, frames):
    """What the program prints: the clip without memory, with it, and after `reset_all`."""
    rows, names = [], []
    detector.reset_all()
    for showing in range(3):
        if showing == 2:
            detector.reset_all()
        for t in range(STEPS):
            with torch.inference_mode():
                (streams,) = detector.detect(frames[t : t + 1], SCORE, NMS, MAX_BOXES)
            for stream, found in enumerate(streams):
                rows += [[showing, t, stream, *row[:5]] for row in found.tolist()]
                names += [PARAMS["classes"][int(row[5]) - 1] for row in found.tolist()]
    return torch.tensor(rows), names


def run(program, *arguments):
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("streams", [1, 4])
def test_cpp_finds_the_boxes_that_python_finds(program, exported, ssd, tmp_path, streams):
    model, precision = exported
    frames = clip(STEPS, streams)
    (tmp_path / "clip").write_bytes(frames.numpy().tobytes())
    done = run(program, model.parent, tmp_path / "clip", STEPS, streams, HEIGHT, WIDTH)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    found = torch.tensor([[float(value) for value in line[:8]] for line in lines])
    rows, names = boxes_of(load_torchscript(model), frames)
    assert len(rows) > 100 and [line[8] for line in lines] == names
    torch.testing.assert_close(found, rows, atol=1e-5, rtol=1e-5)
    first, carried, cleared = (found[found[:, 0] == showing, 1:] for showing in range(3))
    assert torch.equal(first, cleared) and not torch.equal(first, carried)
    if precision == "float32":
        eager, _ = boxes_of(ssd, frames)
        torch.testing.assert_close(found, eager, atol=1e-3, rtol=1e-3)


def test_cpp_says_what_is_wrong(program, ssd, tmp_path):
    (tmp_path / "clip").write_bytes(b"1234")
    model = export_ssd(ssd, PARAMS, tmp_path / "exported", NMS, SCORE)
    done = run(program, model.parent, tmp_path / "clip", 1, 1, HEIGHT, WIDTH)
    assert (done.returncode, done.stderr) == (1, f"{tmp_path / 'clip'}: holds 4 bytes, not T*B*C*H*W*4\n")
    assert run(program).stderr == "usage: detect FOLDER CLIP T B H W [DEVICE]\n"
    done = run(program, tmp_path, tmp_path / "clip", 1, 1, HEIGHT, WIDTH)
    assert done.returncode == 1 and "model.ptjit" in done.stderr

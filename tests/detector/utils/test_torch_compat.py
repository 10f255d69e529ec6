"""What torch does not promise: each use answers as the documented way does, or is missing in a known way."""

import shutil
import warnings

import pytest
import torch
from torch.nn.functional import conv2d

from detector.utils import torch_compat

VNNI = torch.cpu.get_capabilities().get("avx512_vnni", False)


def test_the_processor_is_described_as_its_capabilities_say():
    found = torch.cpu.get_capabilities()
    assert torch_compat.cpu_has_avx512_bf16() is found.get("avx512_bf16", False)
    assert torch_compat.cpu_has_amx() is found.get("amx_tile", False)


@pytest.mark.parametrize("after", ["none", "relu"])
def test_reordered_weights_convolve_as_plain_ones(after):
    x, weight, bias = torch.randn(2, 3, 9, 7), torch.randn(4, 3, 3, 3), torch.randn(4)
    expected = conv2d(x, weight, bias, stride=2, padding=1)
    reordered = torch_compat.reorder_weight(weight, [1, 1], [2, 2], list(x.shape))
    found = torch_compat.convolve_reordered(x, reordered, bias, [1, 1], [2, 2], after)
    torch.testing.assert_close(found, expected.relu() if after == "relu" else expected)


@pytest.mark.skipif(not VNNI, reason="needs AVX-512 VNNI: without it the sums may saturate")
def test_bytes_convolve_exactly():
    x = torch.randint(0, 256, (2, 3, 9, 7), dtype=torch.uint8)
    weight, scales = torch.randint(-127, 128, (4, 3, 3, 3), dtype=torch.int8), torch.tensor([1.0, 0.5, 2.0, 0.25])
    expected = conv2d(x.float() - 128, weight.float(), stride=2, padding=1) * scales.view(1, -1, 1, 1)
    reordered = torch_compat.reorder_byte_weight(weight, scales, 128, [1, 1], [2, 2], list(x.shape))
    zeros = torch.zeros(4, dtype=torch.int32)
    found = torch_compat.convolve_bytes(x, reordered, scales, zeros, 128, [1, 1], [2, 2])
    torch.testing.assert_close(found, expected)


def test_functions_of_layers_script():
    for function in (
        torch_compat.reorder_weight,
        torch_compat.convolve_reordered,
        torch_compat.reorder_byte_weight,
        torch_compat.convolve_bytes,
    ):
        torch.jit.script(function)


class Double(torch.nn.Module):
    def forward(self, x):
        return 2 * x


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiled_package_answers_as_its_program(tmp_path):
    x = torch.arange(3.0)
    torch_compat.compile_package(torch.export.export(Double(), (x,)), tmp_path / "double.pt2")
    assert torch_compat.load_package(tmp_path / "double.pt2")(x).tolist() == [0, 2, 4]


def test_a_missing_compiler_is_recognised(tmp_path):
    from torch._inductor import config

    program = torch.export.export(Double(), (torch.arange(4.0),))
    missing = config.patch({"cpp.cxx": (None, "no-such-compiler")})
    with missing, pytest.raises(torch_compat.NoCompilerError, match="No working C"):
        torch_compat.compile_package(program, tmp_path / "double.pt2")


def test_texts_of_the_warnings_that_are_silenced(tmp_path):
    conv = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    x = torch.rand(1, 2, 5, 5)
    program = torch.export.export(conv, (x,))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.jit.script(Double())
        torch.export.save(program, tmp_path / "a.pt2")
    texts = [str(warning.message) for warning in caught]
    assert any("torch.jit.script` is deprecated" in text for text in texts), texts
    assert any("No complete tensor found" in text for text in texts), texts
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch_compat.ignoring_torchscript_deprecation():
            torch.jit.script(Double())
        torch_compat.save_program(program, tmp_path / "b.pt2")
    assert [str(warning.message) for warning in caught] == []
    torch.testing.assert_close(torch.export.load(tmp_path / "b.pt2").module()(x), conv(x))

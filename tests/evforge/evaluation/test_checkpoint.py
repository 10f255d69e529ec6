import pytest
import torch

from evforge.evaluation.checkpoint import checkpoint_config, find_checkpoint


def test_find_checkpoint(tmp_path):
    study = tmp_path / "study" / "best"
    study.mkdir(parents=True)
    (study / "best.ckpt").write_text("")
    assert find_checkpoint(tmp_path / "study") == find_checkpoint(study) == find_checkpoint(study / "best.ckpt")
    with pytest.raises(FileNotFoundError, match="no checkpoint, allowed: a .ckpt file, or the folder"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"hello world", {"state_dict": {}}])
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=r"x.ckpt: not a checkpoint of a detector"):
        checkpoint_config(path)

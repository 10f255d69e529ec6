import zipfile

import pytest

from detector.config import Config
from evforge import EvForgeError
from evforge.cluster import shipping

SHARED = {"data.dataset_path": "/data", "train.storage": "/runs", "track.tracking_uri": "http://mlflow:5000"}


def test_only_the_two_packages_and_the_named_files_are_shipped(tmp_path):
    (tmp_path / "c.yaml").write_text("train: {}")
    contents = shipping._contents({"c.yaml": tmp_path / "c.yaml"}, {})
    assert {name.partition("/")[0] for name in contents} == {"c.yaml", "detector", "evforge"}
    assert {
        "c.yaml",
        "detector/config/tree.py",
        "evforge/cli/main.py",
        "evforge/recipes/synthetic.yaml",
    } <= contents.keys()
    assert not [name for name in contents if "__pycache__" in name or name.endswith(".pyc")]
    with shipping._archive(contents) as path:
        with zipfile.ZipFile(path) as archive:
            assert set(archive.namelist()) == contents.keys()
            assert archive.read("c.yaml") == b"train: {}"
        assert path.stat().st_size < 10**6
    assert not path.exists()


def test_too_much_is_refused_with_the_largest_files():
    sizes = {"evforge/a.py": 10, "weights.json": 40_000_000, "detector/clip.npy": 20_000_000, "evforge/b.py": 5}
    with pytest.raises(EvForgeError) as error:
        shipping._check_size(sizes)
    assert str(error.value) == (
        "60.0 MB would be shipped, allowed: 50 MB; the largest files: weights.json (40.0 MB), "
        "detector/clip.npy (20.0 MB), evforge/a.py (0.0 MB)"
    )


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.dataset_path", "dataset", "got 'dataset', which a job"),
        ("data.dataset_path", "", "got ''"),
        ("train.storage", "runs", "an absolute path"),
        ("train.pretrained", "best.ckpt", "got 'best.ckpt'"),
        ("track.tracking_uri", None, "got None"),
        ("track.tracking_uri", "sqlite:///mlflow.db", "sqlite:////FOLDER/mlflow.db"),
    ],
)
def test_paths_that_a_job_would_lose_are_refused(key, value, words):
    (problem,) = shipping.unshared(Config().with_overrides({**SHARED, key: value}))
    assert problem.startswith(f"{key}: ") and words in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.dataset_path", "s3://bucket/gen1"),
        ("track.tracking_uri", "sqlite:////shared/mlflow.db"),
        ("train.pretrained", "/shared/best.ckpt"),
    ],
)
def test_shared_paths_and_addresses_are_allowed(key, value):
    assert shipping.unshared(Config().with_overrides({**SHARED, key: value})) == []

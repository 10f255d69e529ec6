import h5py
import numpy as np
import pytest

from detector.config import Config
from detector.data.builder.dataset import build_dataset
from detector.data.label_map import class_names
from detector.events import BBOX_dtype, EventCD, write_dat
from detector.labels import save_labels
from evforge.recipes import RECIPES, find_config

GEN1_NAMES = {0: "car", 1: "pedestrian"}
MEGAPIXEL_NAMES = dict(enumerate(["pedestrian", "two wheeler", "car", "truck", "bus", "traffic sign", "traffic light"]))


def load(name):
    return Config.load(find_config(name))


def test_the_protocols_of_the_two_automotive_sets():
    gen1, megapixel = load("gen1"), load("1mpx")
    assert class_names(gen1.data) == ["car", "pedestrian"]
    assert class_names(megapixel.data) == ["pedestrian", "two wheeler", "car"]
    assert (gen1.data.height, gen1.data.width) == (240, 304)
    assert (megapixel.data.height, megapixel.data.width) == (360, 640)
    for config in (gen1, megapixel):
        data, optim = config.data, config.optim
        assert (data.min_box_diag, data.min_box_side, data.skip_us) == (30, 10, 500_000)
        assert (config.eval.empty_frames, config.eval.score_thresh) == ("ignore", 0.001)
        assert (data.num_tbins, data.delta_t, data.batch_size, config.train.max_epochs) == (12, 50_000, 4, 20)
        assert (optim.lr, optim.weight_decay, optim.lr_scheduler_step_gamma) == (2e-4, 1e-5, 0.98)
        assert optim.lr_scheduler == "exponential"


@pytest.mark.parametrize(
    ("name", "stem", "sensor", "names", "shape"),
    [
        ("gen1", "17-04-04_11-00-13_cut_15_61500000_121500000", (240, 304), GEN1_NAMES, (2, 2, 240, 304)),
        ("1mpx", "moorea_2019-02-19_005_td_671500000_731500000", (720, 1280), MEGAPIXEL_NAMES, (2, 2, 360, 640)),
    ],
)
def test_recordings_under_their_published_names(tmp_path, name, stem, sensor, names, shape):
    folder = tmp_path / "val"
    folder.mkdir()
    events = np.zeros(2, EventCD)
    events["t"], events["x"], events["y"] = (20_000, 70_000), sensor[1] - 1, sensor[0] - 1
    write_dat(folder / f"{stem}_td.dat", events, *sensor)
    labels = np.zeros(1, BBOX_dtype)
    labels["t"], labels["class_id"] = 50_000, 1
    save_labels(folder / f"{stem}_bbox.npy", labels)
    data = load(name).data
    build_dataset([folder / f"{stem}_td.dat"], tmp_path / "out", data, None, names, progress=False)
    with h5py.File(tmp_path / "out" / "val" / f"{stem}.h5") as file:
        assert file["data"].shape == shape
        assert np.argwhere(file["data"][:]).tolist() == [[k, 0, shape[2] - 1, shape[3] - 1] for k in range(2)]
    assert (tmp_path / "out" / "val" / f"{stem}_bbox.npy").is_file()


def test_a_recipe_is_found_by_name_from_any_folder_and_a_file_by_its_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("gen1").read_text().startswith("#")
    (tmp_path / "gen1").write_text("data: {num_tbins: 3}")
    assert Config.load(find_config("gen1")).data.num_tbins == 3, "a file of that name comes first"
    assert Config.load(find_config(tmp_path / "gen1")).data.num_tbins == 3


def test_every_recipe_is_a_configuration():
    assert {"1mpx", "gen1", "pedestrians", "synthetic"} <= RECIPES.keys()
    assert all(Config.load(find_config(name)) != Config() for name in RECIPES)


@pytest.mark.parametrize("name", ["gen2", "gen1.yml"])
def test_an_unknown_recipe_names_those_that_there_are(name):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such configuration file or recipe, did you mean .*gen1"):
        find_config(name)


def test_a_name_unlike_all_recipes_lists_them():
    with pytest.raises(FileNotFoundError, match="recipe, recipes: 1mpx, .*gen1, .*pedestrians"):
        find_config("unheard")

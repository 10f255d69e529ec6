from detector.data.layout import LABELS_END, SPLITS


def test_the_names_in_a_dataset_folder_are_those_of_every_dataset_that_exists():
    assert SPLITS == ("train", "val", "test")
    assert LABELS_END == "_bbox.npy"

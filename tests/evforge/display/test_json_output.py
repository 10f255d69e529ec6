import json
import math
from pathlib import Path

import numpy as np

from evforge.display.json_output import json_text, only_json


def test_facts_become_plain_json():
    facts = {"path": Path("a/b"), "map": np.float32(0.5), "boxes": np.arange(3), "none": math.nan, 3: (math.inf, True)}
    assert json.loads(json_text(facts)) == {
        "path": "a/b",
        "map": 0.5,
        "boxes": [0, 1, 2],
        "none": None,
        "3": [None, True],
    }


def test_text_goes_to_standard_error_beside_json(capsys):
    with only_json(True):
        print("progress")
    with only_json(False):
        print("text")
    assert capsys.readouterr() == ("text\n", "progress\n")

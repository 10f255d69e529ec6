"""Studies and trials in memory."""

from pathlib import Path

from detector.config import Config
from evforge.reports.study_data import Study, StudyTrial
from evforge.space.domains import parse_domain
from evforge.space.space import Space


def trial(name="trial-1", measured=(), **changes):
    history = list(enumerate(measured, 1))
    fields = {
        "config": None,
        "values": {},
        "status": "FINISHED",
        "stopped_early": False,
        "failure": "",
        "seconds": 1.0,
        "costs": {},
        "run_id": name,
    }
    return StudyTrial(name, history=history, **{**fields, **changes})


def study_of(*trials, mode="max", domains=None, **changes):
    space = Space("space.yaml", {}, {key: parse_domain(entry) for key, entry in (domains or {}).items()})
    config = Config().with_overrides({"tune.mode": mode})
    return Study(Path("study").absolute(), config, space, None, "0", list(trials), **changes)

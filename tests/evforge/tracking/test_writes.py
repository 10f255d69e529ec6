"""The writes against a client that records its calls."""

from types import SimpleNamespace

import pytest

from evforge.tracking import writes
from evforge.tracking.writes import END_STATES, NOTE, PARENT, RESUMED, WRITES


class Client:
    """Runs by id; each has a status, tags and a parent. It returns one run per page."""

    def __init__(self, **runs):
        self.runs, self.calls = runs, []

    def __getattr__(self, method):
        return lambda *arguments, **options: self.calls.append((method, *arguments, *options.items()))

    def get_run(self, run_id):
        status, tags = self.runs[run_id]
        return SimpleNamespace(
            info=SimpleNamespace(run_id=run_id, status=status, experiment_id="7"), data=SimpleNamespace(tags=tags)
        )

    def search_runs(self, experiments, text, page_token=None):
        assert experiments == ["7"]
        key, _, value = text.removeprefix("tags.").replace("`", "").partition(" = ")
        names = [name for name, (_, tags) in self.runs.items() if tags.get(key) == value.strip("'")]
        start = int(page_token or 0)
        page = Page(self.get_run(name) for name in names[start : start + 1])
        page.token = str(start + 1) if start + 1 < len(names) else ""
        return page

    def get_experiment_by_name(self, name):
        return SimpleNamespace(experiment_id="7") if name == "exp" else None


class Page(list):
    token = ""


def test_params_and_metrics_are_sent_in_one_request():
    client = Client()
    WRITES["params"](client, "a", {"lr": "0.5", "width": "3"})
    WRITES["metrics"](client, "a", [("loss", 0.25, 1700, 4), ("map", 0.5, 1800, 5)])
    (_, _, (_, params)), (_, run_id, (_, metrics)) = client.calls
    assert [(param.key, param.value) for param in params] == [("lr", "0.5"), ("width", "3")]
    assert [(one.key, one.value, one.timestamp, one.step) for one in metrics] == [
        ("loss", 0.25, 1700, 4),
        ("map", 0.5, 1800, 5),
    ]
    assert [call[0] for call in client.calls] == ["log_batch"] * 2 and run_id == "a"


def test_tags_texts_and_files():
    client = Client()
    WRITES["tag"](client, "a", "key", "value")
    WRITES["text"](client, "a", "hello", "notes/hello.txt")
    WRITES["file"](client, "a", "/x/best.yaml", "config")
    WRITES["file"](client, "a", "/x/best.yaml", "")
    assert client.calls == [
        ("set_tag", "a", "key", "value"),
        ("log_text", "a", "hello", "notes/hello.txt"),
        ("log_artifact", "a", "/x/best.yaml", "config"),
        ("log_artifact", "a", "/x/best.yaml", None),
    ]


def test_datasets_are_inputs_with_their_context():
    client = Client()
    split = {"name": "gen1", "digest": "da7a", "source_type": "local", "source": "{}", "schema": "{}", "profile": "{}"}
    WRITES["inputs"](client, "a", [{**split, "context": "train"}])
    ((method, run_id, (one,)),) = client.calls
    assert (method, run_id, one.dataset.name, one.dataset.digest) == ("log_inputs", "a", "gen1", "da7a")
    assert [(tag.key, tag.value) for tag in one.tags] == [("mlflow.data.context", "train")]


@pytest.mark.parametrize("before", ["", "Training.", "**Result:** old\n\nTraining."])
def test_a_result_is_the_first_paragraph_of_the_description(before):
    client = Client(a=("RUNNING", {NOTE: before} if before else {}))
    WRITES["result"](client, "a", "new")
    rest = "Training." if before else ""
    assert client.calls == [("set_tag", "a", NOTE, f"**Result:** new\n\n{rest}")]


def test_a_restarted_run_runs_and_knows_when_it_was_resumed(monkeypatch):
    monkeypatch.setattr(writes.time, "time", lambda: 12.3456)
    client = Client()
    WRITES["restart"](client, "a")
    assert client.calls == [("update_run", "a", ("status", "RUNNING")), ("set_tag", "a", RESUMED, "12345")]


@pytest.mark.parametrize("status", [*END_STATES, "RUNNING", "SCHEDULED"])
def test_the_first_end_of_a_run_holds(status):
    client = Client(a=(status, {}))
    WRITES["end"](client, "a", "KILLED")
    assert client.calls == ([] if status in END_STATES else [("set_terminated", "a", "KILLED")])


CHILD = {PARENT: "a"}


@pytest.mark.parametrize(
    ("resumed", "ended"),
    [({}, ["a", "b", "d"]), ({RESUMED: "500"}, ["a", "b", "d"]), ({RESUMED: "501"}, [])],
)
def test_a_dead_run_and_its_running_children_are_killed_unless_it_was_resumed_later(resumed, ended):
    runs = {"b": ("RUNNING", CHILD), "c": ("FINISHED", CHILD), "d": ("RUNNING", CHILD), "e": ("RUNNING", {PARENT: "z"})}
    client = Client(a=("RUNNING", resumed), **runs)
    WRITES["end_dead"](client, "a", 500)
    assert client.calls == [("set_terminated", name, "KILLED") for name in ended]


def test_a_removed_run_is_found_by_the_text_of_its_start_and_has_not_ended():
    tag = {"start": "x1"}
    client = Client(a=("RUNNING", tag), b=("RUNNING", {"start": "x2"}), c=("FINISHED", {"start": "x3"}))
    for start in ("x1", "x3", "x9"):
        WRITES["remove"](client, "exp", start)
    WRITES["remove"](client, "other", "x2")
    assert client.calls == [("delete_run", "a")]

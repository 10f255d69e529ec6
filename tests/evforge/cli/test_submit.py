import base64
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import psutil
import pytest
import yaml
from repository import ROOT

from evforge.cli import submit
from evforge.cli.main import main
from evforge.cli.parser import parse
from evforge.cli.settings import Settings
from evforge.cli.verbs import VERBS
from evforge.cluster import jobs
from evforge.tracking.tracker import Tracker

SHARED = {"data.dataset_path": "/data", "train.storage": "/runs", "track.tracking_uri": "http://mlflow:5000"}
SECRET = "Zq7pwd+long/word"
SPACE = """
tune: {num_samples: 1, searcher: random, final_seeds: 1}
space:
  optim.lr: {choice: [0.005, 0.01]}
"""


OWN = {
    "model.feature_extractor": "mylab.nets:MeanNet",
    "optim.lr_scheduler": "mylab.training:linear",
    "tune.scheduler": "ray.tune.schedulers:MedianStoppingRule",
}
"""A lab's own modules, found in the folder from which the command is submitted."""


def test_whatever_follows_the_dashes_is_the_command():
    values = parse("submit", VERBS["submit"], ["--address", "http://x", "--", "train", "--list", "--", "--lr=1"])
    assert values == {
        **{"command": ["train", "--list", "--", "--lr=1"], "address": "http://x"},
        **{"status": None, "logs": None, "stop": None, "list": False, "env": None},
    }
    assert parse("submit", VERBS["submit"], ["--list"])["command"] == []


def test_files_that_the_command_names_lie_in_the_job_s_folder_under_their_names(tmp_path):
    for name in ("a/space.yaml", "b/space.yaml", "config.yml", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    a, b, config = (f"{tmp_path}/{name}" for name in ("a/space.yaml", "b/space.yaml", "config.yml"))
    words, files = submit._named_files(
        ["tune", a, b, f"--config={config}", "--x", a, f"{tmp_path}/notes.txt", "missing.yaml", "--optim.lr=0.1"]
    )
    assert words == [
        *("tune", "space.yaml", "1-space.yaml", "--config=config.yml", "--x", "space.yaml"),
        *(f"{tmp_path}/notes.txt", "missing.yaml", "--optim.lr=0.1"),
    ]
    assert {name: str(path) for name, path in files.items()} == {
        "space.yaml": a,
        "1-space.yaml": b,
        "config.yml": config,
    }


def test_settings_of_the_search_space_count(tmp_path):
    (tmp_path / "space.yaml").write_text("train: {storage: here}\nspace: {optim.lr: {choice: [0.1, 0.2]}}")
    values = {"space": str(tmp_path / "space.yaml"), "settings": Settings(overrides=SHARED)}
    submit.check_job("tune", values)  # flags replace the file's
    others = {key: value for key, value in SHARED.items() if key != "train.storage"}
    with pytest.raises(ValueError, match=r"train.storage: got 'here', which a job"):
        submit.check_job("tune", {**values, "settings": Settings(overrides=others)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "submit: got nothing, allowed: one of --status, --logs, --stop, --list, -- VERB ..."),
        (["--list", "--stop", "x"], "submit: got --stop and --list, allowed: one of"),
        (["--env", "PATH", "--list"], "submit: got --env with --list, allowed: --env with -- VERB ..."),
        (
            ["--env", "A=b", "--", "train"],
            "--env: got A=..., allowed: only the name A, as a value would be",
        ),
        (["--", "quickstart"], "submit: got 'quickstart', allowed: build, train, tune"),
        (["--", "train", "--confg", "x"], "unknown argument --confg, did you mean --config?"),
        (["--", "train"], "data.dataset_path: got '', which a job would look for in its temporary folder"),
        (["--", "build", "a.raw", "--output", "/out"], "recordings: got 'a.raw', which a job"),
        (["--", "build", "/a.raw", "--output", "out"], "output: got 'out', which a job"),
        (["--", "train", "--resume", "runs/train-1"], "resume: got 'runs/train-1', which a job"),
        (["--address", "10.0.0.1:6379", "--list"], "--address: got '10.0.0.1:6379', allowed: address of Ray's dashb"),
        (["--address", "http://127.0.0.1:1", "--list"], "http://127.0.0.1:1: no Ray answers there"),
    ],
)
def test_errors_of_the_user_are_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(jobs, "use_token", lambda: None)  # it would hold for this process, and for other tests
    assert main(["submit", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"evforge: error: {message}") and error.count("\n") == 1


@pytest.mark.parametrize("words", [["--env", "A", "--env", "B"], ["--env", "A", "B"], ["--env=A", "--list", "--env=B"]])
def test_names_of_variables_are_repeated(words):
    assert parse("submit", VERBS["submit"], [*words, "--", "train", "--env"])["env"] == ["A", "B"]


@pytest.fixture
def launched(monkeypatch) -> dict:
    """The arguments with which a job would be launched; no cluster is asked."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "LAB_KEY"):
        monkeypatch.setenv(name, "")  # so that monkeypatch removes what a test stores
        monkeypatch.delenv(name)
    found = {}

    def launch(client, name, module, files, packages, credentials):
        found.update(module=module, files=files, credentials=credentials)
        return "job-1"

    for name, function in {"connect": str, "launch": launch, "follow": lambda client, job_id: 0}.items():
        monkeypatch.setattr(submit, name, function)
    return found


def test_a_password_in_the_command_reaches_the_job_as_variables(launched, monkeypatch, capsys):
    monkeypatch.setenv("LAB_KEY", "Kx9")
    paths = ("--data.dataset_path=/data", "--train.storage", "/runs")
    for address in (
        ["--track.tracking_uri=http://ada:pw7%2B@h:5000"],
        ["--track.tracking_uri", "http://ada:pw7%2B@h:5000"],
    ):
        assert main(["submit", "--env", "LAB_KEY", "--", "train", *paths, *address]) == 0
        assert shlex.join(launched["module"]).replace("=", " ") == (
            "evforge train --data.dataset_path /data --train.storage /runs --track.tracking_uri http://h:5000"
        )
        assert launched["credentials"] == {
            **{"LAB_KEY": "Kx9", "MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "pw7+"}
        }
    printed = "".join(capsys.readouterr())
    assert "http://h:5000" in printed and "pw7" not in printed and "Kx9" not in printed
    assert "\nnext: evforge submit --logs job-1\n" in printed


def test_variables_that_are_not_named_stay_here(launched, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw7")
    flags = [f"--{key}={value}" for key, value in SHARED.items()]
    assert main(["submit", "--", "train", *flags]) == 0 and launched["credentials"] == {}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.yaml", "track:\n  tracking_uri: http://ada:pw7@h", "c.yaml: track.tracking_uri: got 'http://h', whose"),
        ("c.yaml", "# http://ada:pw7@h\ntrack: {}", "c.yaml: line 1: got '# http://h', whose password Ray would write"),
        (
            "c.json",
            '{"tune": {"mode": "max"}, "track": {"tracking_uri": "mysql://a:pw7@h/d?x=1"}}',
            "c.json: tr",
        ),
    ],
)
def test_a_shipped_file_with_a_password_is_refused(name, text, message, launched, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    flags = [f"--{key}={value}" for key, value in SHARED.items()]
    assert main(["submit", "--", "train", "--config", name, *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"evforge: error: {message}") and error.count("\n") == 1 and "pw7" not in error
    assert launched == {}


def test_passwords_in_other_addresses_are_refused(launched, capsys):
    words = ["build", "/a.raw", "--output", "sftp://ada:pw7@h/gen1"]
    assert main(["submit", "--", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("evforge: error: --output: got 'sftp://ada@h/gen1', whose password") and launched == {}


@dataclass(frozen=True)
class Head:
    """A Ray head with token authentication, and what a client needs to reach it."""

    address: str
    token_file: Path
    folder: Path

    def evforge(self, *words: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
        """Run evforge in its own process, which finds the token but is told nothing else."""
        return subprocess.run(
            [sys.executable, "-m", "evforge", *words],
            cwd=cwd,
            env=self.environment(**variables),
            capture_output=True,
            text=True,
            check=False,
            timeout=1500,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        path = f"{ROOT}{os.pathsep}{ROOT / 'platform'}"
        patience = ("timeout", "niceness")  # of tests/conftest.py
        known = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("RAY_") or any(word in key.lower() for word in patience)
        }
        return {**known, "PYTHONPATH": path, "RAY_AUTH_TOKEN_PATH": str(self.token_file), **variables}


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as name:  # sockets want a short path
        found = Head(f"http://127.0.0.1:{_free_port()}", Path(name) / "token", Path(name))
        found.token_file.write_text(secrets.token_hex(32))
        variables = found.environment(
            RAY_AUTH_MODE="token", PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        )
        del variables["PYTHONPATH"]  # all that a job imports was shipped with it
        with (Path(name) / "log").open("w") as log:
            process = subprocess.Popen(_start_command(found), env=variables, cwd=name, stdout=log, stderr=log)
        try:
            _wait_for(found, process)
            yield found
        finally:
            _end(process)


def _start_command(head: Head) -> list[str]:
    ports = {name: _free_port() for name in ("port", "dashboard-agent-listen-port", "ray-client-server-port")}
    return [
        str(Path(sys.executable).with_name("ray")),
        *("start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", "--object-store-memory=80000000"),
        *("--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", "--min-worker-port=0", "--max-worker-port=0"),
        *(f"--{name}={port}" for name, port in ports.items()),
        f"--dashboard-port={head.address.rpartition(':')[2]}",
        f"--temp-dir={head.folder}",
    ]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def _wait_for(head: Head, process: subprocess.Popen) -> None:
    request = urllib.request.Request(f"{head.address}/api/jobs/")
    request.add_header("Authorization", f"Bearer {head.token_file.read_text()}")
    for _ in range(1000):
        assert process.poll() is None, (head.folder / "log").read_text()
        try:
            with urllib.request.urlopen(request, timeout=60):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    raise AssertionError((head.folder / "log").read_text())


def _end(process: subprocess.Popen) -> None:
    """End the head and all its processes, each by its id."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    process.wait(300)
    for child in family:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


@pytest.fixture
def workplace(tiny_config, tmp_path) -> Path:
    """A folder as users have them: settings, a space, 2 GB of data, a repository, runs."""
    folder = tmp_path / "clone"
    for name in ("data/huge.h5", ".git/objects/pack", "runs/old/best.ckpt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(2 * 10**9)
    shutil.copytree(ROOT / "tests" / "helpers" / "mylab", folder / "mylab")
    config = tiny_config.with_overrides({"train.max_epochs": 1, **OWN})
    (folder / "config.yaml").write_text(config.to_yaml())
    (folder / "space.yaml").write_text(SPACE)
    return folder


def test_a_search_is_submitted_from_a_folder_full_of_data(head, workplace, tiny_config, tmp_path):
    submitted = ("submit", "--address", head.address, "--", "tune", "space.yaml", "--config", "config.yaml")
    done = head.evforge(*submitted, cwd=workplace)
    assert done.returncode == 0, done.stdout + done.stderr

    # What was shipped: by its own account, and as it arrived.
    (shipped,) = [line for line in done.stdout.splitlines() if line.startswith("shipping ")]
    assert shipped.endswith(" MB: detector, evforge, mylab, space.yaml, config.yaml")
    assert float(shipped.split(" files, ")[1].split(" MB")[0]) < 1
    (space,) = (head.folder / "session_latest/runtime_resources").rglob("space.yaml")
    assert {path.name for path in space.parent.iterdir()} == {
        *("config.yaml", "detector", "evforge", "mylab", "space.yaml")
    }
    sources = [path for path in space.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in sources) < 3 * 10**6  # unpacked

    # The job did its work, and its results outlive its working folder.
    assert "\nbest settings: " in done.stdout and done.stdout.splitlines()[-1].endswith(" succeeded")
    (study,) = (tmp_path / "runs").glob("study-*")
    best = yaml.safe_load((study / "best.yaml").read_text())
    assert best["optim"]["lr"] in (0.005, 0.01)
    tracker = Tracker(tiny_config.track.tracking_uri, tiny_config.track.experiment)
    runs = tracker.client.search_runs([tracker.experiment_id])
    assert len(runs) == 2 and {run.info.status for run in runs} == {"FINISHED"}


@pytest.mark.soak
def test_a_job_that_fails_fails_here_too_and_can_be_looked_at_later(head, workplace):
    words = ("train", "--config", "config.yaml", "--data.dataset_path", "/no/dataset")
    done = head.evforge("submit", "--", *words, cwd=workplace, RAY_API_SERVER_ADDRESS=head.address)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "\nevforge: error: " in done.stdout and "/no/dataset" in done.stdout
    job = done.stdout.splitlines()[-1].split()[1]

    state = head.evforge("submit", "--address", head.address, "--status", job, cwd=workplace)
    assert state.stdout.split()[:2] == [job, "FAILED"] and "python -m evforge train" in state.stdout
    listed = head.evforge("submit", "--list", cwd=workplace, RAY_ADDRESS=head.address)
    assert job in listed.stdout and listed.returncode == 0
    log = head.evforge("submit", "--address", head.address, "--logs", job, cwd=workplace)
    assert log.returncode == 2 and "/no/dataset" in log.stdout
    unknown = head.evforge("submit", "--address", head.address, "--status", "nobody", cwd=workplace)
    assert unknown.returncode == 2
    reason = "job nobody: not known to the cluster; `evforge submit --list` shows its jobs"
    assert unknown.stderr == f"evforge: error: {reason}\n"


def test_without_the_token_nothing_goes(head, workplace, tmp_path):
    (tmp_path / "other").write_text(secrets.token_hex(32))
    wrong = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    missing = {"RAY_AUTH_TOKEN_PATH": "", "HOME": str(tmp_path)}
    for variables in (wrong, missing):
        done = head.evforge("submit", "--address", head.address, "--list", cwd=workplace, **variables)
        assert done.returncode == 2 and done.stdout == ""
        assert done.stderr.startswith(f"evforge: error: {head.address}: the cluster wants its token"), done.stderr


def test_ctrl_c_leaves_the_job_running_and_stop_ends_it(head, workplace):
    words = ("submit", "--address", head.address, "--", "train", "--config", "config.yaml", "--train.max_epochs", "500")
    command = [sys.executable, "-u", "-m", "evforge", *words]
    process = subprocess.Popen(command, cwd=workplace, env=head.environment(), stdout=subprocess.PIPE, text=True)
    line = next(line for line in process.stdout if line.startswith("job "))
    job = line.split()[1]
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=500)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == f"stop it: evforge submit --address {head.address} --stop {job}"

    state = head.evforge("submit", "--address", head.address, "--status", job, cwd=workplace)
    assert state.stdout.split()[1] in ("PENDING", "RUNNING")
    stopped = head.evforge("submit", "--address", head.address, "--stop", job, cwd=workplace)
    assert stopped.stdout == f"job {job} stopped\n"


@pytest.fixture
def locked_server() -> Iterator[str]:
    """Host and port of a tracking server that answers only the user ada with the password `SECRET`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            given = self.headers["Authorization"] == f"Basic {base64.b64encode(f'ada:{SECRET}'.encode()).decode()}"
            self.send_response(200 if given else 401)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args):
            return

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _leaks(folder: Path) -> list[str]:
    """The files of a Ray head that contain `SECRET`: as it is, quoted or in base64."""
    forms = [SECRET.partition("+")[0].encode()]
    for shift in range(3):  # base64 of a part depends on where the part begins
        text = base64.b64encode(b"-" * shift + SECRET.encode())
        forms.append(text[4 if shift else 0 : 16])
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(b"EVFORGE_CREDENTIALS" in path.read_bytes() for path in files if path.suffix == ".log"), "read too early"
    return [str(path) for path in files if any(form in path.read_bytes() for form in forms)]


def test_doctor_asks_the_cluster_and_no_file_of_ray_holds_the_password(head, workplace, locked_server):
    address = f"--track.tracking_uri=http://ada:{quote(SECRET, safe='')}@{locked_server}"
    words = ("--config", "config.yaml", "--data.dataset_path", "/no/dataset", address)
    done = head.evforge("doctor", "--address", head.address, *words, cwd=workplace)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = {line.split()[0]: line[25:29].strip() for line in done.stdout.partition("cluster at")[2].splitlines()[1:]}
    expected = ("nodes", "python", "ray", "torch", "mlflow", "train.use_gpu", "train.storage", "track.tracking_uri")
    assert {lines[key] for key in expected} == {"ok"}
    assert {key for key, status in lines.items() if status == "FAIL"} == {"data.dataset_path"}
    *_, summary, following = done.stdout.splitlines()
    assert summary == "1 problem(s): see the lines with FAIL"
    assert following.startswith(f"next: evforge doctor --address {head.address} --config config.yaml ")
    assert following.endswith(f" --track.tracking_uri=http://{locked_server}")
    assert f"http://{locked_server} answers" in done.stdout and SECRET[:6] not in done.stdout + done.stderr
    assert _leaks(head.folder) == []

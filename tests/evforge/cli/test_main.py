import errno
import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from detector.config import Config
from evforge import EvForgeError
from evforge.cli import main as main_module
from evforge.cli.main import main
from evforge.cli.settings import Settings
from evforge.cli.verbs import VERBS
from evforge.cli.verbs.training import START
from evforge.tracking import retry_queue


def run_verb(monkeypatch, function, *arguments):
    monkeypatch.setitem(VERBS, "probe", function)
    return main(["probe", *arguments])


def test_help_lists_every_verb_and_imports_nothing_heavy():
    code = "import sys; from evforge.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    text, modules = output.rsplit("\n[", 1)
    assert all(f"\n  {name}" in text for name in VERBS)
    heavy = ("torch", "ray", "mlflow", "jsonargparse", "numpy", "optuna")
    assert not [name for name in heavy if f"'{name}'" in modules]


def test_modules_of_the_working_folder_can_be_imported(monkeypatch, tmp_path):
    (tmp_path / "own_part_of_a_user.py").touch()
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)

    def find() -> int:
        return int(importlib.util.find_spec("own_part_of_a_user") is None)

    assert find() == 1
    for _ in range(2):
        assert run_verb(monkeypatch, find) == 0
        assert sys.path == [*before, str(tmp_path)]  # once, and after the folders of installed packages


def test_without_a_verb_help_is_shown_as_an_error(capsys):
    assert main([]) == 2
    assert "verbs:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert f"usage: evforge {verb}" in capsys.readouterr().out


def test_help_of_a_verb_with_settings_shows_every_leaf_with_its_meaning(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help", "all"])
    text = re.sub(r"\n {10,}", " ", capsys.readouterr().out)
    for key in Config().to_flat():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [f"--{key}"]]
        assert len(line.partition("(default:")[0].split()) >= 2, line


def test_dotted_flags_override_the_file(tmp_path, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text("model: {feature_base: 8}\noptim: {lr: 1e-3}")
    seen = []
    function = lambda settings: seen.append(settings.resolve())  # noqa: E731
    function.__annotations__["settings"] = Settings
    code = run_verb(monkeypatch, function, "--config", str(path), "--model.feature_base", "24", "--data.classes=[car]")
    assert code == 0
    (config,) = seen
    assert (config.model.feature_base, config.optim.lr, config.data.classes) == (24, 1e-3, ["car"])


def test_print_config_prints_what_load_reads_back(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["train", "--model.feature_base", "24", "--print_config"])
    assert stop.value.code == 0
    path = tmp_path / "printed.yaml"
    path.write_text(capsys.readouterr().out)
    assert Config.load(path) == Config.load(None, {"model.feature_base": 24})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown verb trian, did you mean train?"),
        (["dance"], "unknown verb dance, `evforge --help` lists the verbs"),
        (["train", "--model.feature_bas", "8"], "argument --model.feature_bas, did you mean --model.feature_base?"),
        (["train", "--feature_base", "8"], "unknown argument --feature_base, did you mean --model.feature_base?"),
        (["train", "--confg", "x"], "unknown argument --confg, did you mean --config?"),
        (["train", "--model.feature_base"], "--model.feature_base: expects a value"),
        (["train", "--model.feature_base", "--data.height", "3"], "--model.feature_base: expects a value"),
        (["train", "--model.feature_base", "wide"], "feature_base"),
        (["train", "--anchors.fg_iou_threshold", "0.2"], "bg_iou_threshold: got 0.3, allowed: at most"),
        (["train", "--anchors.anchor_list", "NO_ANCHORS"], "anchor_list"),
        (["train", "--config", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["train"], "data.dataset_path: got '', allowed: a dataset folder"),
        (["train", "--data.dataset_path", "nowhere"], "nowhere"),
        (["train", "--resume", "nowhere"], "nowhere"),
        (["build", "a.raw"], "the following arguments are required: --output"),
        (["build", "a.raw", "--output", "out", "--train", "x"], "--train: got 'x', allowed: a range of seconds"),
        (["build", "nowhere.raw", "--output", "out"], "nowhere.raw"),
        (["synth", "out", "--train", "many"], "--train: got 'many', allowed: a whole number"),
        (["evaluate", "nowhere"], "nowhere: no checkpoint"),
        (["export", "nowhere", "out"], "nowhere: no checkpoint"),
        (["tune", "nowhere.yaml"], "nowhere.yaml: no such search space"),
        (["registry", "lst"], "action: got 'lst', allowed: list, show, register"),
        (["train", "runs"], "unknown argument runs, did you mean --data.dataset_path runs?"),
        (["train", "mine.yaml"], "unknown argument mine.yaml, did you mean --config mine.yaml?"),
        (["train", "--config", "."], ".: is a folder, allowed: a YAML file"),
        (["train", "--config", "pedestrian"], "no such configuration file or recipe, did you mean pedestrians?"),
    ],
)
def test_errors_of_the_user_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out.removeprefix(f"{START}\n") == ""
    assert output.err.startswith("evforge: error: ")
    assert output.err.count("\n") == 1
    assert message in output.err
    assert list(tmp_path.iterdir()) == []


def test_all_mistakes_are_reported_at_once(capsys):
    words = ["--output", "out", "--train", "x", "--sensor_height", "tall", "--sensor_widht", "3", "--data.delta_t", "a"]
    assert main(["build", *words, "--data.delta", "4", "--model.num_levels", "5"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "evforge: error: --sensor_height: got 'tall', allowed: a whole number",
        "evforge: error: unknown argument --sensor_widht, did you mean --sensor_width?",
        "evforge: error: unknown argument --data.delta, did you mean --data.delta_t?",
        "evforge: error: --model.num_levels: build does not use this setting, allowed: settings of data",
        "evforge: error: data.delta_t: got 'a', allowed: a whole number",
    ]


def test_a_binary_file_is_no_configuration(tmp_path, capsys):
    path = tmp_path / "a.yaml"
    path.write_bytes(bytes(range(128, 256)))
    assert main(["train", "--config", str(path)]) == 2
    assert capsys.readouterr().err == f"evforge: error: {path}: is not a text file, allowed: a YAML file\n"


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"evforge \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_a_command_leaves_no_thread_and_no_open_file(capsys):
    def state():
        return threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

    before = state()
    assert main(["--version"]) == 0
    assert state() == before


class _Callback:
    """An object in whose end an interrupt arrives, which cannot be raised from there."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):
            pass


def test_an_interrupt_in_a_callback_of_a_library_is_one_line(monkeypatch, capsys):
    def compile_something():
        _Callback()
        raise RuntimeError("no compiled object yet")

    monkeypatch.setitem(VERBS, "doctor", compile_something)
    assert main(["doctor"]) == 130
    lines = capsys.readouterr().err.splitlines()
    assert sorted(lines) == ["evforge: interrupted", "evforge: stopping; Ctrl-C again is ignored"]


def test_a_command_ends_although_a_process_that_it_forked_continues(monkeypatch, capsys):
    """Such as the process of a loader, which ends with the program only."""
    children = []

    def fork():
        children.append(os.fork())
        if not children[-1]:
            time.sleep(60)
            os._exit(0)

    monkeypatch.setitem(VERBS, "doctor", fork)
    try:
        assert main(["doctor"]) == 0
        assert os.waitpid(children[0], os.WNOHANG) == (0, 0), "the process still runs"
    finally:
        os.kill(children[0], signal.SIGKILL)


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "evforge", "--version"]
    assert subprocess.check_output(command, text=True).startswith("evforge ")


def test_quiet_and_verbose_may_be_anywhere_before_two_dashes(monkeypatch):
    monkeypatch.setattr("os.environ", {})
    received = []
    monkeypatch.setitem(VERBS, "submit", lambda **values: received.append(values["command"]) or 0)
    monkeypatch.setattr(main_module, "parse", lambda verb, function, words: {"command": words})
    assert main(["-q", "submit", "--list", "--verbose", "--", "train", "-q"]) == 0
    assert received == [["--list", "--", "train", "-q"]]
    assert os.environ == {"EVFORGE_QUIET": "1", "TQDM_DISABLE": "1", "EVFORGE_TRACEBACK": "1"}


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.delenv("EVFORGE_TRACEBACK", raising=False)

    def fail() -> None:
        raise ModuleNotFoundError("No module named 'ray'", name="ray.tune")

    monkeypatch.setitem(VERBS, "doctor", fail)
    assert main(["doctor"]) == 2
    assert "the package ray.tune is not installed; install it, or all of EvForge" in capsys.readouterr().err


def test_unknown_key_in_a_file_names_file_key_and_nearest(tmp_path, capsys):
    path = tmp_path / "c.yaml"
    path.write_text("model: {feature_bas: 8}")
    assert main(["train", "--config", str(path)]) == 2
    error = capsys.readouterr().err
    assert f"{path}: unknown key model.feature_bas, did you mean model.feature_base?" in error


def test_own_errors_are_one_line_and_faults_go_on(monkeypatch, capsys):
    def fails() -> None:
        raise EvForgeError("all\ntrials failed")

    def breaks() -> None:
        raise KeyError("fault")

    assert run_verb(monkeypatch, fails) == 2
    assert capsys.readouterr().err == "evforge: error: all trials failed\n"
    with pytest.raises(KeyError):
        run_verb(monkeypatch, breaks)


def _foreign(module, message="it\nbroke", parent=Exception, **attributes):
    """An exception whose class belongs to another library."""
    error = type("TheirError", (parent,), {"__module__": module})(message)
    vars(error).update(attributes)
    return error


def _failing(error):
    def fails() -> None:
        raise error

    return fails


@pytest.mark.parametrize(
    ("error", "start", "remedy"),
    [
        (_foreign("ray.exceptions"), "Ray failed: it broke; ", "--resume FOLDER"),
        (_foreign("mlflow.exceptions"), "MLflow failed: it broke; ", "track.tracking_uri"),
        (_foreign("sqlalchemy.exc"), "the database failed: it broke; ", "track.tracking_uri"),
        (_foreign("requests.exceptions", parent=OSError), "a server failed: it broke; ", "its address"),
        (_foreign("urllib3.exceptions", ""), "a server failed: TheirError; ", "its address"),
        (_foreign("aiohttp.client_exceptions"), "a server failed: it broke; ", "its address"),
        (_foreign("grpc._channel"), "a server failed: it broke; ", "its address"),
        (_foreign("botocore.exceptions"), "the object storage failed: it broke; ", "AWS_*"),
        (_foreign("own", parent=type(_foreign("ray.exceptions"))), "Ray failed: it broke; ", "--resume FOLDER"),
    ],
)
def test_errors_of_servers_and_clusters_are_one_line(monkeypatch, capsys, error, start, remedy):
    assert run_verb(monkeypatch, _failing(error)) == 2
    text = capsys.readouterr().err
    assert text.startswith(f"evforge: error: {start}") and remedy in text
    assert text.endswith("; EVFORGE_TRACEBACK=1 shows the traceback\n") and text.count("\n") == 1
    monkeypatch.setenv("EVFORGE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run_verb(monkeypatch, _failing(error))


def test_a_long_message_of_another_library_is_cut_off(monkeypatch, capsys):
    run_verb(monkeypatch, _failing(_foreign("ray.exceptions", "12345 " * 1000)))
    assert 300 < len(capsys.readouterr().err) < 600


@pytest.mark.parametrize(
    "message",
    [
        "API request to endpoint /api/2.0 failed with error code 401 != 200. Response body: 'Not authenticated.'",
        "API request to endpoint /api/2.0 failed with error code 403 != 200. Response body: 'Permission denied'",
        "PERMISSION_DENIED: no access to this experiment",
    ],
)
def test_a_server_of_mlflow_that_wants_credentials(monkeypatch, capsys, message):
    assert run_verb(monkeypatch, _failing(_foreign("mlflow.exceptions", message))) == 2
    text = capsys.readouterr().err
    assert "wants credentials: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in text
    assert "evforge submit --env MLFLOW_TRACKING_USERNAME --env MLFLOW_TRACKING_PASSWORD -- ..." in text


def test_a_number_in_a_message_is_no_status(monkeypatch, capsys):
    run_verb(monkeypatch, _failing(_foreign("mlflow.exceptions", "no run 401")))
    assert "MLflow failed: no run 401" in capsys.readouterr().err


def test_an_error_in_another_process_is_explained_by_its_cause(monkeypatch, capsys):
    lost = _foreign("ray.exceptions", "Traceback ...", cause=ValueError("data.height: got 3"))
    assert run_verb(monkeypatch, _failing(lost)) == 2
    assert capsys.readouterr().err == "evforge: error: data.height: got 3\n"
    bug = _foreign("ray.exceptions", "Traceback ...", cause=KeyError("fault"))
    with pytest.raises(type(bug)):
        run_verb(monkeypatch, _failing(bug))


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_interrupts_end_with_130(monkeypatch, capsys, name):
    import os
    import signal

    before = signal.getsignal(getattr(signal, name))
    cleaned = []

    def waits() -> None:
        try:
            os.kill(os.getpid(), getattr(signal, name))
            signal.pause()
        finally:
            cleaned.append(True)

    assert run_verb(monkeypatch, waits) == 130
    assert cleaned == [True]
    assert "evforge: interrupted" in capsys.readouterr().err
    assert signal.getsignal(getattr(signal, name)) is before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupt_is_acknowledged_before_the_cleanup(monkeypatch, capsys, name):
    import os
    import signal

    from waiting import wait_for

    errors, number = [], getattr(signal, name)

    def acknowledged() -> bool:
        errors.append(capsys.readouterr().err)
        return "evforge: stopping; Ctrl-C again is ignored\n" in errors

    def works() -> None:
        signal.signal(number, lambda *_: None)  # as Ray Train does
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        wait_for(acknowledged)
        raise KeyboardInterrupt

    before = signal.set_wakeup_fd(-1)
    assert run_verb(monkeypatch, works) == 130
    assert "".join(errors).count("stopping") == 1
    assert signal.set_wakeup_fd(before) == -1


def test_lightnings_exit_after_an_interrupt_is_an_interrupt(monkeypatch, capsys):
    import os
    import signal

    def exits() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            sys.exit(1)

    assert run_verb(monkeypatch, exits) == 130


def test_exit_code_of_a_verb(monkeypatch):
    def bad() -> int:
        return 1

    assert run_verb(monkeypatch, bad) == 1


def test_undelivered_writes_are_named_and_change_the_exit_code(monkeypatch, tmp_path, capsys):
    file = tmp_path / "undelivered" / "host-1-0123abcd.jsonl"

    def leave():
        retry_queue._left.add(file)

    assert run_verb(monkeypatch, leave) == 0  # it was delivered meanwhile
    file.parent.mkdir()
    file.touch()
    assert run_verb(monkeypatch, leave) == 1
    assert f"MLflow has not received everything; the next command delivers {file}" in capsys.readouterr().err
    leave()
    assert run_verb(monkeypatch, lambda: None) == 0  # an earlier command left it
    assert run_verb(monkeypatch, lambda: leave() or 3) == 3
    assert run_verb(monkeypatch, lambda: retry_queue._lost.append("tag")) == 1
    assert "MLflow has not received everything; 1 writes are lost" in capsys.readouterr().err


def test_a_full_disk_is_named_with_its_remedy(monkeypatch, capsys):
    def fail():
        raise OSError(errno.ENOSPC, "No space left on device", "/runs/best.yaml")

    assert run_verb(monkeypatch, fail) == 2
    error = capsys.readouterr().err
    assert "No space left on device: '/runs/best.yaml'; free some space on this disk" in error


def test_a_closed_pipe_is_no_error():
    code = (
        "import sys; from evforge.cli import main; sys.stdin.read();"  # until the other end of stdout is closed
        "main.VERBS['probe'] = lambda: print('a' * 100_000, flush=True); sys.exit(main.main(['probe']))"
    )
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141

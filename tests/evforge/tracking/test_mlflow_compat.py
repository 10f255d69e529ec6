import sqlite3
from pathlib import Path

import mlflow

from evforge.tracking.mlflow_compat import EXPERIMENTS_PAGE, PATH_COLUMNS
from evforge.tracking.tracker import Tracker


def test_no_other_column_of_a_store_names_a_file(tracking_uri, tmp_path):
    """A new column with paths would stay behind when a store is moved."""
    tracker = Tracker(tracking_uri, "exp")
    run_id = tracker.start_run("run", {})
    tracker.log_text(run_id, "text", "a.txt")
    tracker.client.create_registered_model("model")
    tracker.client.create_model_version("model", f"{(tmp_path / 'mlartifacts').as_uri()}/m", run_id)
    found = set()
    with sqlite3.connect(tracking_uri.removeprefix("sqlite:///")) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for column in [row[1] for row in database.execute(f"PRAGMA table_info({table})")]:
                query = f"SELECT count(*) FROM {table} WHERE {column} LIKE ?"
                if database.execute(query, (f"%{tmp_path}/mlartifacts%",)).fetchone()[0]:
                    found.add((table, column))
    known = {(table, column) for table, columns in PATH_COLUMNS.items() for column in columns}
    assert found and found <= known


def test_the_pages_know_the_option_for_training():
    scripts = (Path(mlflow.__file__).parent / "server" / "js" / "build").rglob("*.js")
    option = EXPERIMENTS_PAGE.partition("?")[2]
    wanted = {text.encode() for text in option.split("=")}
    for script in scripts:
        content = script.read_bytes()
        wanted = {text for text in wanted if text not in content}
    assert len(option.split("=")) == 2 and not wanted

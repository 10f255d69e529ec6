"""Sections of the report about the winner: settings, evaluation on the test split, registered versions, commands."""

import json
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from detector.evaluation.analysis.slices import SLICES
from evforge.display.intervals import share_interval
from evforge.display.tables import metric_text, range_text
from evforge.evaluation.compare import EVALUATION_FILE
from evforge.evaluation.report import rules_text
from evforge.reports.html import command, details, image, images, link, paragraph, section, table
from evforge.reports.study_data import Study, StudyTrial, value_text

__all__ = ["commands_section", "registry_section", "settings_section", "evaluation_section"]

LARGEST_IMAGE = 3 * 2**20
"""Images of more bytes are not embedded in the page."""
FIRST_IMAGES = ("detections", "confusion", "slices", "pr_curve")
HIDDEN_GROUPS, HIDDEN_KEYS = ("track.",), ("data.dataset_path", "train.storage")
"""Settings that describe the machine and not the model."""


def settings_section(study: Study, winner: StudyTrial) -> str:
    """Return the HTML of the winner's settings: those that were searched, and all others that are not paths.

    Args:
        study: the study.
        winner: its winner.
    """
    base, rows = study.config.to_flat(), []
    for key, value in winner.values.items():
        rows.append((key, value_text(value), value_text(base[key]) if key in base else "-"))
    parts = [table(("searched setting", "winner", "without the search"), rows)]
    if winner.config is not None:
        flat = winner.config.to_flat().items()
        shown = [(k, value_text(v)) for k, v in flat if not k.startswith(HIDDEN_GROUPS) and k not in HIDDEN_KEYS]
        parts.append(details("All settings of the winner", table(("setting", "value"), shown)))
    return section("Settings of the winner", *parts)


def evaluation_section(study: Study, winner: StudyTrial) -> str:
    """Return the HTML of the winner's evaluation on the test split, with its figures, from MLflow.

    Args:
        study: the study.
        winner: its winner.

    Raises:
        Exception: the files cannot be read from MLflow.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = {path.name: path for path in _download(study, winner, Path(folder))}
        if EVALUATION_FILE not in files:
            note = "The winner was not evaluated on the test split; see the commands above."
            return section("Test of the winner", paragraph(note))
        found = json.loads(files[EVALUATION_FILE].read_text())
        names = sorted((path.stem for path in files.values() if path.suffix == ".png"), key=_order)
        shown = [image(files[f"{name}.png"].read_bytes(), name.replace("_", " ")) for name in names]
    return section("Test of the winner", *_evaluation(found), images(shown))


def _order(name: str) -> tuple[int, str]:
    return FIRST_IMAGES.index(name) if name in FIRST_IMAGES else len(FIRST_IMAGES), name


def _download(study: Study, winner: StudyTrial, folder: Path) -> Iterator[Path]:
    client = study.tracker.client
    for item in client.list_artifacts(winner.run_id, "test"):
        name = Path(item.path).name
        if name == EVALUATION_FILE or (name.endswith(".png") and (item.file_size or 0) <= LARGEST_IMAGE):
            yield Path(client.download_artifacts(winner.run_id, item.path, str(folder)))


def _evaluation(found: dict[str, Any]) -> Iterator[str]:
    intervals = found["details"].get("intervals", {}).get("bounds", {})  # evaluations of older versions have none
    metrics = [(key, metric_text(value), _range(intervals.get(key))) for key, value in found["metrics"].items()]
    yield table(("metric", "value", "95 % interval"), metrics, (1, 2))
    yield paragraph("The intervals come from a bootstrap over blocks of frames; other recordings may vary more.")
    point = found["details"]["operating_point"]
    f1, score, precision, recall = (metric_text(point[key], 3) for key in ("f1", "score", "precision", "recall"))
    rules = f"best F1 {f1} at score {score}: precision {precision}, recall {recall}; {rules_text(found['protocol'])}"
    yield paragraph(rules)
    rows = [
        (SLICES[key].title, f"{range_text(part['start'], part['stop'])} {SLICES[key].unit}", *_slice(part))
        for key, parts in found["details"]["slices"].items()
        for part in parts
        if part["boxes"] and key in SLICES
    ]
    yield table(("slice", "range", "boxes", "AP", "AP50", "recall", "95 % interval"), rows, (2, 3, 4, 5))
    yield paragraph("Recall at the score of the best F1, with Wilson's interval, which takes boxes as independent.")


def _slice(part: dict[str, Any]) -> tuple[str, ...]:
    bounds = None if part["recall"] is None else share_interval(part["recall"], part["boxes"])
    return f"{part['boxes']:,}", *(metric_text(part[key], 3) for key in ("ap", "ap50", "recall")), _range(bounds)


def _range(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"


def registry_section(study: Study, winner: StudyTrial) -> str:
    """Return the HTML of the registered versions of the winner.

    Args:
        study: the study.
        winner: its winner.

    Raises:
        Exception: the registry cannot be read.
    """
    client, parts = study.tracker.client, []
    for version in client.search_model_versions(f"run_id = '{winner.run_id}'"):
        name, number = version.name, str(version.version)
        aliases = ", ".join(client.get_model_version(name, number).aliases)  # the search omits aliases
        text = f"{name}, version {number}" + (f", {aliases}" if aliases else "")
        if study.tracker.uri.startswith("http"):
            parts.append(
                link(text, f"{study.tracker.uri.rstrip('/')}/#/models/{quote(name, safe='')}/versions/{number}")
            )
        else:
            parts.append(paragraph(text, "summary"))
        parts.append(command(_shell("registry", "show", "--name", name, "--version", number, *_store(study))))
    return section("Registry", *(parts or [paragraph("The winner is not registered.")]))


def _store(study: Study) -> tuple[str, ...]:
    return () if study.config.track.tracking_uri is None else ("--track.tracking_uri", study.tracker.uri)


def commands_section(study: Study) -> str:
    """Return the HTML of the commands that use the winner, or of the command that resumes the study."""
    folder = str(study.folder)
    if study.best_run is None:
        return section(
            "Next commands", paragraph("If the search was interrupted:"), command(_shell("tune", "--resume", folder))
        )
    commands = {
        "Evaluate the winner on the test split:": ("evaluate", folder),
        "Export it to a file that runs without EvForge:": ("export", folder, str(study.folder / "exported")),
        "Evaluate, export and register it:": ("registry", "register", "--checkpoint", folder),
        "Detect in a recording:": ("predict", "recording.raw", "--model", folder, "--output", "boxes.npy", "video.gif"),
        "Train again with its settings:": ("train", "--config", str(study.folder / "best.yaml")),
    }
    parts = [paragraph(title) + command(_shell(*words)) for title, words in commands.items()]
    return section("Next commands", *parts)


def _shell(*words: str) -> str:
    return shlex.join(["evforge", *words])

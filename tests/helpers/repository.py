"""Path of the repository of these tests."""

from pathlib import Path

ROOT = Path(__file__).parents[2]

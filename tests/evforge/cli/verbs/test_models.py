import inspect
import typing

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import PRECISIONS
from evforge.cli.verbs.models import export


def test_the_command_line_names_the_forms_and_precisions():
    assert all(name in inspect.getdoc(export) for name in EXPORT_FORMS)
    assert typing.get_args(typing.get_type_hints(export)["precision"]) == tuple(PRECISIONS)

import typing

from detector.config.extensions import EXPORT_FORMS
from detector.export.form import PRECISIONS
from evforge.cli.verbs.models import export


def test_the_command_line_names_the_forms_and_precisions():
    hints = typing.get_type_hints(export)
    assert typing.get_args(hints["form"]) == tuple(EXPORT_FORMS)
    assert typing.get_args(hints["precision"]) == tuple(PRECISIONS)

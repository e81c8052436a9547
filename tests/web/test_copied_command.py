"""The command that the page shows opens the run and selects as the page does."""

from __future__ import annotations

from pathlib import Path

import tyro

from genlangsplat_ns.commands.export import Export
from genlangsplat_ns.commands.view import View
from genlangsplat_ns.language.settings import SelectionSettings

CONFIG = Path("RUN/config.yml")


def exported(view: View) -> Export:
    """The export that the options of a page lead to."""
    return tyro.cli(Export, args=["--load-config", str(CONFIG), *view.export_options(), "--output", "object.ply"])


def test_the_default_settings_need_no_option() -> None:
    assert View(load_config=CONFIG).export_options() == ()


def test_every_setting_of_the_run_and_the_selection_is_kept() -> None:
    selection = SelectionSettings(min_opacity=0.2, clean_up=False, radius=0.5, smallest_group=0.3)
    view = View(load_config=CONFIG, data=Path("-my data"), safe=True, decoder="autoencoder", selection=selection)
    export = exported(view)
    assert export.selection == selection
    assert (export.data, export.decoder, export.safe) == (view.data, view.decoder, view.safe)

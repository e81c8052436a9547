"""`gen-langsplat share`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import tyro
from rich.markup import escape
from rich.table import Table

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings, split_texts
from genlangsplat_ns.utils.console import CONSOLE
from genlangsplat_ns.web.settings import ShareSettings

DEFAULT_VOCABULARY = Path("default")
"""Stands for the list of common things."""


@dataclass(frozen=True, kw_only=True)
class Share(RunSettings):
    """Write a page of a run that answers given texts, for any static host or, as one file, for a mail."""

    texts: tuple[str, ...]
    """Texts that the page answers; semicolons inside a text separate several."""
    output_dir: Path
    """Folder for the page."""
    single_file: bool = False
    """Write one HTML file that opens by double click, without a network; files of a folder need a host."""
    vocabulary: Path | None = None
    """Further texts for the search box of the page: a file with one per line, or the word default for about 120
    common things."""
    overwrite: bool = False
    """Replace an existing page in this folder."""
    content: tyro.conf.OmitArgPrefixes[ShareSettings] = field(default_factory=ShareSettings)
    """What the page contains."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored. The scores are written, so level and negatives are fixed; the threshold moves."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are selected."""

    def __call__(self) -> None:
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.language.vocabulary import read_vocabulary
        from genlangsplat_ns.web.share import check_shared_folder, make_shared_page, vocabulary_query

        texts = TextQuery.of(tuple(dict.fromkeys(split_texts(*self.texts))), self.query)
        vocabulary = None
        if self.vocabulary is not None:
            words = read_vocabulary(None if self.vocabulary == DEFAULT_VOCABULARY else self.vocabulary)
            vocabulary = vocabulary_query(words, texts)
        check_shared_folder(self.output_dir, self.overwrite)
        page = make_shared_page(self.open(), texts, vocabulary, self.content, self.selection)
        CONSOLE.print(table_of(page.sizes()))
        if self.single_file:
            page = page.single_file()
            CONSOLE.print(f"As one file: {sum(page.sizes().values()) / 1e6:.2f} MB.")
        page.write(self.output_dir, self.overwrite)
        (opened,) = [name for name in page.files if name.endswith(".html")]
        CONSOLE.print(f"The page is {escape(str(self.output_dir / opened))}.", soft_wrap=True)
        if not self.single_file:
            CONSOLE.print(
                "Put the folder on any web server. To try it here: python -m http.server --bind 127.0.0.1 --directory "
                + escape(str(self.output_dir)),
                soft_wrap=True,
            )


def table_of(sizes: Mapping[str, int]) -> Table:
    """Builds a table of the sizes of the parts."""
    table = Table("part", "MB")
    for part, size in sizes.items():
        table.add_row(part, f"{size / 1e6:.2f}")
    table.add_section()
    table.add_row("in all", f"{sum(sizes.values()) / 1e6:.2f}")
    return table

"""Puts viewer elements into a folder at the top of the viewer's panel.

nerfstudio installs the elements of a model four folders deep, below its own controls. An element decides in `install`
where it goes, and viser sorts folders by their order, so these elements go to a folder above everything else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nerfstudio.viewer.viewer_elements import (
    ViewerButton,
    ViewerDropdown,
    ViewerElement,
    ViewerSlider,
    ViewerText,
)
from viser import GuiFolderHandle, ViserServer

FIRST = -1.0
"""The order of the folder; viser counts its own elements from 0."""


class TopFolder:
    """A folder at the top of the panel, made when the first element is installed.

    Args:
        label: The name of the folder.
        opened: Is called with the server of the viewer when the folder is made.
    """

    def __init__(self, label: str, opened: Callable[[ViserServer], None]) -> None:
        self._label, self._opened = label, opened
        self._made: tuple[ViserServer, GuiFolderHandle] | None = None

    def install(self, server: ViserServer, install: Callable[[ViserServer], None]) -> None:
        """Installs an element in the folder."""

        def inside() -> None:
            if self._made is None or self._made[0] is not server:
                self._made = server, server.gui.add_folder(self._label, order=FIRST)
                self._opened(server)
            with self._made[1]:
                install(server)

        # viser adds what a thread adds to the folder that this thread has entered, and a new thread has entered none.
        with ThreadPoolExecutor(1) as thread:
            thread.submit(inside).result()


class InTopFolder(ViewerElement):
    """Makes a viewer element go to a `TopFolder`, if it has one."""

    folder: TopFolder | None = None

    def install(self, viser_server: ViserServer) -> None:
        """Installs the element."""
        install = super().install  # type: ignore[safe-super]  # The element's class, which comes next, has it.
        if self.folder is None:
            install(viser_server)
        else:
            self.folder.install(viser_server, install)


class TopText(InTopFolder, ViewerText):
    """A text box at the top."""


class TopDropdown(InTopFolder, ViewerDropdown):
    """A list at the top."""


class TopSlider(InTopFolder, ViewerSlider):
    """A slider at the top."""


class TopButton(InTopFolder, ViewerButton):
    """A button at the top."""

"""The controls of the language panel go to the top of the viewer's panel, by public parts of nerfstudio and viser."""

from __future__ import annotations

import threading
from typing import Any
from unittest.mock import create_autospec

import pytest
from viser import ClientHandle, ViserServer

from genlangsplat_ns.viewer import panel as panel_module
from genlangsplat_ns.viewer.top_folder import FIRST, TopFolder, TopText
from genlangsplat_ns.viewer.training_views import TrainingViews
from tests.scene.language_scenes import some_camera
from tests.viewer.test_panel import panel_with


class Gui:
    """Stands for viser's: elements go to the folder that the thread has entered, and to the root otherwise."""

    def __init__(self) -> None:
        self.entered: dict[int, str] = {}
        self.folders: list[tuple[str, str, float | None]] = []
        self.elements: dict[str, str] = {}

    def where(self) -> str:
        return self.entered.get(threading.get_ident(), "root")

    def add_folder(self, label: str, order: float | None = None) -> Folder:
        self.folders.append((self.where(), label, order))
        return Folder(self, label)


class Folder:
    """A folder that a thread enters and leaves."""

    def __init__(self, gui: Gui, label: str) -> None:
        self.gui, self.label, self.before = gui, label, ""

    def __enter__(self) -> None:
        self.before = self.gui.where()
        self.gui.entered[threading.get_ident()] = self.label

    def __exit__(self, *_: object) -> None:
        self.gui.entered[threading.get_ident()] = self.before


def server_with(gui: Gui) -> Any:
    """A server with this interface."""
    server = create_autospec(ViserServer, instance=True)
    server.gui = gui
    return server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that notes where each text box is put."""
    gui = Gui()
    monkeypatch.setattr(
        "nerfstudio.viewer.viewer_elements.ViewerText.install",
        lambda element, server: gui.elements.setdefault(element.name, gui.where()),
    )
    return server_with(gui)


def test_elements_go_to_one_folder_at_the_root_wherever_nerfstudio_installs_them(server: Any) -> None:
    opened: list[Any] = []
    folder = TopFolder("Language", opened.append)
    with server.gui.add_folder("Custom Elements"):
        for name in ("Texts", "Answer"):
            element = TopText(name, "")
            element.folder = folder
            element.install(server)
        TopText("Other", "").install(server)
    assert server.gui.folders == [("root", "Custom Elements", None), ("root", "Language", FIRST)]
    assert server.gui.elements == {"Texts": "Language", "Answer": "Language", "Other": "Custom Elements"}
    assert opened == [server]


def test_an_error_while_an_element_is_installed_is_raised(server: Any) -> None:
    def fail(server: Any) -> None:
        raise ValueError("no place")

    with pytest.raises(ValueError, match="no place"):
        TopFolder("Language", lambda server: None).install(server, fail)


def test_a_new_browser_starts_at_the_first_training_view(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[Any] = []
    monkeypatch.setattr(panel_module, "start_at", lambda client, camera: placed.append((client, camera)))
    panel = panel_with(lambda: None)
    panel.a_texts.install(server)
    (connect,) = server.on_client_connect.call_args_list[0].args
    browser = create_autospec(ClientHandle, instance=True)
    connect(browser)
    assert placed == []
    panel.views = TrainingViews(["a.png"], some_camera())
    connect(browser)
    ((client, camera),) = placed
    assert client is browser and camera.camera_to_worlds[2, 3] == 3

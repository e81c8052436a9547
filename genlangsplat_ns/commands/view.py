"""`gen-langsplat view`."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import tyro
from rich.markup import escape

from genlangsplat_ns.commands.run_settings import RunSettings
from genlangsplat_ns.language.settings import QuerySettings, SelectionSettings, split_texts
from genlangsplat_ns.utils.console import CONSOLE


@dataclass(frozen=True, kw_only=True)
class View(RunSettings):
    """Ask a trained run in the browser: a page on this machine that draws the splats itself. Ctrl-C ends it."""

    text: tuple[str, ...] = ()
    """Texts that the page asks when it opens; the default are those of the run. Semicolons separate several."""
    port: int = 7008
    """Port of the page; 0 takes any free one."""
    host: str = "127.0.0.1"
    """Address to listen on; only this machine reaches the default. With 0.0.0.0 others reach the page by the token in
    the printed address, without encryption."""
    browser: bool = True
    """Open the page in the browser of this machine, if it has a screen."""
    query: tyro.conf.OmitArgPrefixes[QuerySettings] = field(default_factory=QuerySettings)
    """How texts are scored; the page starts with these settings."""
    selection: tyro.conf.OmitArgPrefixes[SelectionSettings] = field(default_factory=SelectionSettings)
    """Which Gaussians above the threshold are selected."""

    def __call__(self) -> None:
        from genlangsplat_ns.utils.optional import require_extra

        require_extra("view", "starlette", "uvicorn")
        from genlangsplat_ns.language.query import TextQuery
        from genlangsplat_ns.web.live_scene import LiveScene
        from genlangsplat_ns.web.server import make_app
        from genlangsplat_ns.web.serving import address_of, bound, serve, token_for

        texts = split_texts(*self.text)
        if texts:
            TextQuery.of(texts, self.query)
        with bound(self.host, self.port) as taken:
            scene = self.open()
            texts = texts or split_texts(scene.model.config.query_texts)
            live = LiveScene(scene, self.query, self.selection, texts, str(self.load_config), self.export_options())
            if not live.views:
                CONSOLE.print("Without its photographs, the page has no thumbnails and starts with the whole scene.")
            token = token_for(taken)
            address = address_of(taken, self.host, token)
            CONSOLE.print(f"The scene is at {escape(address)} (Ctrl-C ends it).", soft_wrap=True)
            if self.browser and has_screen():
                threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
            serve(make_app(live, taken.getsockname()[1], token), taken, live.stop)

    def export_options(self) -> tuple[str, ...]:
        """Returns the options with which `export` opens the same run and selects as the page does."""
        selection = tuple(item.name for item in fields(self.selection))
        return (*_changed(self, ("data", "safe", "decoder")), *_changed(self.selection, selection))


def _changed(settings: RunSettings | SelectionSettings, names: Sequence[str]) -> list[str]:
    """Returns the options of those settings that differ from their defaults."""
    defaults = {item.name: item.default for item in fields(settings)}
    options: list[str] = []
    for name in names:
        value, flag = getattr(settings, name), name.replace("_", "-")
        if value == defaults[name]:
            continue
        if isinstance(value, bool):
            options.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            options.append(f"--{flag}={value}")
    return options


def has_screen() -> bool:
    """Whether this process can show a window to whoever started it."""
    if os.environ.get("SSH_CONNECTION"):
        return False
    return sys.platform in ("darwin", "win32") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))

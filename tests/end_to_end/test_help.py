"""`--help` explains every option of every command."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import typing

import pytest
import tyro

from genlangsplat_ns.cli import COMMANDS
from tests.end_to_end.commands import gen_langsplat

WITHOUT_PREFIX = {
    "query",
    "selection",
    "cameras",
    "scores",
    "settings",
    "views",
    "parser",
    "features",
    "photographs",
    "content",
}
"""Fields whose settings are flags of the command itself."""


def sentences_of(settings: type) -> dict[str, str]:
    """The docstrings of the fields of a dataclass and its bases."""
    found: dict[str, str] = {}
    for owner in [kind for kind in reversed(settings.__mro__) if "__dataclass_fields__" in vars(kind)]:
        body = ast.parse(inspect.getsource(owner)).body[0].body
        for item, sentence in zip(body, [*body[1:], None], strict=True):
            if isinstance(item, ast.AnnAssign):
                assert isinstance(sentence, ast.Expr), f"{owner.__name__}.{item.target.id} has no sentence"
                found[item.target.id] = ast.literal_eval(sentence.value)
    return found


def documented_options(settings: type, prefix: str = "--") -> dict[str, str]:
    """Flags and docstrings of all fields of a dataclass and its nested classes."""
    options: dict[str, str] = {}
    hints, sentences = typing.get_type_hints(settings), sentences_of(settings)
    annotated = typing.get_type_hints(settings, include_extras=True)
    for item in dataclasses.fields(settings):
        flag, kind = prefix + item.name.replace("_", "-"), hints[item.name]
        if tyro.conf.Positional in getattr(annotated[item.name], "__metadata__", ()):
            (flag,) = [str(extra.metavar) for extra in annotated[item.name].__metadata__ if hasattr(extra, "metavar")]
        if dataclasses.is_dataclass(kind):
            options |= documented_options(kind, "--" if item.name in WITHOUT_PREFIX else f"{flag}.")
        else:
            options[flag] = sentences[item.name]
    return options


@pytest.mark.parametrize("name", COMMANDS)
def test_help_explains_every_option(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", "100")
    gen_langsplat(name, "--help")
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    options = documented_options(COMMANDS[name])
    for flag, sentence in options.items():
        start = words.index(f" {flag} " if f" {flag} " in words else f" {flag},")
        assert " ".join(sentence.split()) in words[start : start + 500], f"{flag} is not explained"


def test_nested_settings_have_their_flags() -> None:
    assert {"--data", "--levels", "--sam.checkpoint", "--open-clip.weights"} <= documented_options(
        COMMANDS["extract"]
    ).keys()
    assert {"--threshold", "--min-opacity", "--split", "--decoder"} <= documented_options(COMMANDS["query"]).keys()

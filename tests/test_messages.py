"""Every error message says what was found, and then what to do."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

GAP = "\0"
"""Stands for a value in a message."""

ADVICE = ("advice", "hint", "refit", "repair", "undistort", "required", "install", "remedy", "command", "conversion")
"""Parts of the names of values and functions that hold an instruction."""

VERBS = frozenset(
    re.findall(
        r"\S+",
        "add apt-get ask build call change check choose click close combine compare compute convert copy correct "
        "create crop cut delete describe download draw enter establish export extract fetch fit fix free get give "
        "grant hold install invert keep label leave link list load look lower make mask move name omit open pass pip "
        "place point put raise rectify reduce remove rename repair replace report resize restart restore resume "
        "retrain rotate run save select send set shorten shrink split start state stop take train transpose try "
        "turn undistort unpack update upgrade use wait write",
    )
)
"""Verbs that start an instruction."""

STARTS = re.compile(rf"[A-Z{GAP}\"'`-]|open_clip|gsplat|pycolmap|ffmpeg|nerfstudio|float16|\w+_\w+ |colors |viewmat ")
"""What a message may start with: a capital, a value, an option, or the name of a program or argument."""

COMMAND = r"pip install [^.]+"
"""What a message may end with instead of a sentence."""

PASSED_ON = ("Camera ",)
"""Beginnings of messages that end in another message, which has the instruction."""

REASONS = ("views/transforms_file.py",)
"""Files with messages that are the reason inside another one, which starts with the place and may end in advice."""


@dataclass(frozen=True)
class Message:
    """A message of an error in the source."""

    place: str
    """File and line."""
    text: str
    """Its constant parts, with gaps."""


def error_types() -> set[str]:
    """The names of our error type and of its subclasses."""
    found, before = {"GenLangSplatError"}, 0
    while len(found) > before:
        before = len(found)
        for _, tree in sources():
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and any(getattr(base, "id", "") in found for base in node.bases):
                    found.add(node.name)
    return found


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    """The modules of the package and of the pre-training, by path."""
    files = [path for folder in ("genlangsplat_ns", "pretrain") for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))) for path in files)


def text_of(node: ast.expr, constants: dict[str, str]) -> str:
    """The constant parts of a string expression; values that hold advice count as an instruction."""
    match node:
        case ast.Constant(value=str(value)):
            return value
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part, constants) for part in parts)
        case ast.FormattedValue(value=value):
            return text_of(value, constants)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left, constants) + text_of(right, constants)
        case ast.IfExp(body=body, orelse=other):
            # The shorter one: the message has to be complete with each of them.
            return min((text_of(part, constants) for part in (body, other)), key=len)
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(value)), attr="join")):
            return GAP + value + GAP
    named = ast.unparse(node).lower()
    return " Do as it says." if any(word in named for word in ADVICE) else GAP


def constants_in(tree: ast.Module) -> dict[str, str]:
    """The strings that a module gives names to."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            text = text_of(node.value, found) if isinstance(node.value, ast.Constant | ast.JoinedStr) else ""
            if text:
                found[node.targets[0].id] = text
    return found


def messages_in(place: str, tree: ast.Module, types: set[str]) -> Iterator[Message]:
    """The messages of all errors of our types that a module makes, except those that pass on another message."""
    constants = constants_in(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in types and node.args:
            text = text_of(node.args[0], constants)
            if text.strip(GAP + " \n"):
                yield Message(f"{place}:{node.lineno}", text)


def instructs(text: str) -> bool:
    """Whether a message goes on with an instruction after what it found: a clause that starts with a verb."""
    if "Do as it says." in text or f"`{GAP}`" in text:
        return True
    clauses = re.split(rf"{GAP}\s+(?=[A-Z])|(?:[.;:,?!]['\"`)]?\s+|\s(?:and|or|then|to|so)\s+|^|\n)", text)
    first = [clause.split(" ")[0].strip("`'\"(").lower() for clause in clauses if clause]
    return any(word in VERBS for word in first[1:]) or f". {GAP}" in text


def is_reason(message: Message) -> bool:
    """Whether a message is the reason inside another one, or has another one inside."""
    if message.text.startswith(PASSED_ON) and message.text.endswith(f": {GAP}"):
        return True
    return message.text.startswith(("its ", "the last row of its ")) and any(file in message.place for file in REASONS)


def all_messages() -> list[Message]:
    """The messages of the package and of the pre-training."""
    types = error_types()
    return [message for place, tree in sources() for message in messages_in(place, tree, types)]


def test_every_message_says_what_to_do() -> None:
    found = all_messages()
    assert len(found) > 250
    assert [message for message in found if not instructs(message.text) and not is_reason(message)] == []


def test_every_message_is_made_of_sentences() -> None:
    wrong = [
        message
        for message in all_messages()
        if not is_reason(message)
        and not (STARTS.match(message.text.strip()) and re.search(rf"(?:[.`{GAP}]|{COMMAND})$", message.text))
    ]
    assert wrong == []


def test_no_message_tells_a_joke_or_shouts() -> None:
    assert [message for message in all_messages() if "!" in message.text.replace("!r", "")] == []


def test_messages_with_and_without_an_instruction_are_told_apart() -> None:
    assert instructs(f"{GAP} has no frames. Add some.")
    assert instructs(f"There is no {GAP}; give another one.")
    assert not instructs(f"{GAP} is damaged.")
    assert not instructs("Use is not what starts this message")

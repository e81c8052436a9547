"""The page on troubleshooting quotes messages that the code really has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]

PAGE = ROOT / "docs" / "troubleshooting.md"

QUOTED = "| message | cause | cure |"
"""Header of the tables whose first column are our own messages."""

GAP = "\0"
"""Stands for a value in a message of the code."""

FORMAT = re.compile(r"%[.\d]*[sdfr]")


def messages_in(source: str) -> Iterator[str]:
    """The strings of a module, with a gap for each value in them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield FORMAT.sub(GAP, node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else GAP for part in node.values)


@cache
def messages_of_the_code() -> tuple[str, ...]:
    """All strings of the package and of the pre-training."""
    files = [path for folder in ("genlangsplat_ns", "pretrain") for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(text for path in files for text in messages_in(path.read_text(encoding="utf-8")))


def quoted_messages(page: str) -> list[str]:
    """The first cells of the tables of messages."""
    messages: list[str] = []
    in_table = False
    for line in page.splitlines():
        in_table = line == QUOTED or (in_table and line.startswith("|"))
        if in_table and (quoted := re.match(r"\| `([^`]+)` \|", line)):
            messages.append(quoted[1])
    return messages


def is_said(quoted: str, messages: tuple[str, ...]) -> bool:
    """Whether a message has the constant parts of a quotation in this order; `...` stands for anything."""
    pattern = re.compile(".*".join(re.escape(part) for part in quoted.split("...")), re.DOTALL)
    return any(pattern.search(message) for message in messages)


def test_every_quoted_message_is_in_the_code() -> None:
    quoted = quoted_messages(PAGE.read_text(encoding="utf-8"))
    assert len(quoted) > 50
    assert [message for message in quoted if not is_said(message, messages_of_the_code())] == []


def test_every_row_of_these_tables_quotes_a_message() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables = re.findall(rf"{re.escape(QUOTED)}\n\|---\|---\|---\|\n((?:\|.*\n)+)", page)
    assert sum(table.count("\n") for table in tables) == len(quoted_messages(page))


def test_a_quotation_is_long_enough_to_be_found_in_the_page() -> None:
    short = [text for text in quoted_messages(PAGE.read_text(encoding="utf-8")) if len(text.replace("...", "")) < 15]
    assert short == []


def test_messages_are_compared_by_their_constant_parts() -> None:
    source = 'raise Wrong(f"There is no {name} in "\n            f"{folder}. Give one.")\nlog("%s of %d lost", a, b)'
    messages = tuple(messages_in(source))
    assert is_said("There is no ... in .... Give one.", messages)
    assert is_said("... of ... lost", messages)
    assert not is_said("There is one ... in ...", messages)
    assert not is_said("Give one. There is no ...", messages)

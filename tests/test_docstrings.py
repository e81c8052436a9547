"""The reference of the site is made from docstrings, so everything public has one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

Definition = ast.FunctionDef | ast.ClassDef


def undocumented(body: list[ast.stmt], inherits: bool = False) -> Iterator[str]:
    """Names of public functions, classes and methods without a docstring.

    Methods of a class that inherits may override documented ones.
    """
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            if not inherits and not ast.get_docstring(node):
                yield node.name
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node.body, bool(node.bases))


def test_everything_public_has_a_docstring() -> None:
    files = [path for folder in ("genlangsplat_ns", "pretrain", "examples") for path in (ROOT / folder).rglob("*.py")]
    trees = {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}
    assert len(trees) > 100
    assert [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []
    assert [f"{name}: {item}" for name, tree in trees.items() for item in undocumented(tree.body)] == []


def test_missing_docstrings_are_found() -> None:
    classes = "class B:\n 'x'\n def c(self): pass\nclass D(B):\n 'x'\n def c(self): pass\n"
    source = f"def a(): pass\n{classes}def _e(): pass\n"
    assert list(undocumented(ast.parse(source).body)) == ["a", "c"]

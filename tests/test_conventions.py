"""What all tests keep to: they patch no private attribute, and assert neither time nor constants."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent

TREES = {
    path.relative_to(TESTS).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in TESTS.rglob("*.py")
}

CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time", "elapsed_time"}


def is_private(name: str) -> bool:
    """Whether a name, which may be dotted, ends in one that starts with a single underscore."""
    last = name.split(".")[-1]
    return last.startswith("_") and not last.startswith("__")


def patched_names(tree: ast.AST) -> Iterator[str]:
    """Attributes that code sets on objects other than `self`, by assignment, `setattr` or `monkeypatch.setattr`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("setattr", "delattr"):
                yield from (
                    each.value
                    for each in node.args[:2]
                    if isinstance(each, ast.Constant) and isinstance(each.value, str)
                )
        elif isinstance(node, (ast.Assign, ast.AugAssign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and getattr(target.value, "id", "") != "self":
                    yield target.attr


def asserted_clocks(tree: ast.AST) -> Iterator[str]:
    """Calls of clocks inside assertions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            calls = [call.func for call in ast.walk(node) if isinstance(call, ast.Call)]
            yield from (call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in CLOCKS)


def constant_asserts(tree: ast.AST) -> Iterator[int]:
    """Lines of assertions that cannot fail because they are constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and isinstance(node.test, ast.Constant | ast.Tuple):
            yield node.lineno


def test_no_private_attribute_is_patched() -> None:
    assert [
        (name, patched) for name, tree in TREES.items() for patched in patched_names(tree) if is_private(patched)
    ] == []


def test_no_time_is_asserted() -> None:
    assert [(name, clock) for name, tree in TREES.items() for clock in asserted_clocks(tree)] == []


def test_no_assertion_is_constant() -> None:
    assert [(name, line) for name, tree in TREES.items() for line in constant_asserts(tree)] == []


def test_the_checks_of_this_file_find_what_they_look_for() -> None:
    bad = ast.parse("m.setattr(a, '_b', 1)\nm.setattr('a._c', 1)\na._d = 2\nassert time.monotonic() < 3\nassert True")
    assert {patched for patched in patched_names(bad) if is_private(patched)} == {"_b", "a._c", "_d"}
    assert list(asserted_clocks(bad)) == ["monotonic"] and list(constant_asserts(bad)) == [5]

"""The documents are true to the tree: links, anchors, paths and functions exist, and commands can be parsed."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from packaging.requirements import Requirement

from genlangsplat_ns.cli import COMMANDS
from pretrain.__main__ import load_commands

ROOT = Path(__file__).parents[1]

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "pretrain/README.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]

CODE_LINE = re.compile(r"(?: {4}|```)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
TREE_PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|h|cpp|md|toml|yaml|yml|safetensors)|(?:[\w.-]+/)+")
COMMENTED = re.compile(r"\s# .*$")
PROGRAMS: dict[str, Callable[[], dict[str, Any]]] = {
    "gen-langsplat": lambda: COMMANDS,
    "python -m pretrain": load_commands,
}

PARSE_TRAINING = """
import json, sys, tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
configs = [tyro.cli(AnnotatedBaseConfigUnion, args=words) for words in json.loads(sys.argv[1])]
print(json.dumps([config.method_name for config in configs]))
"""


def name_of(path: Path) -> str:
    """The path of a document below the root, for the name of a test."""
    return path.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)


def prose_and_code(text: str) -> tuple[list[str], list[str]]:
    """Splits a document into the lines of its prose and those of its code blocks, indented or fenced."""
    prose: list[str] = []
    code: list[str] = []
    fenced, previous_blank = False, True
    indented = False
    for line in text.splitlines():
        if line.strip().startswith("```"):
            fenced = not fenced
            continue
        if not line.strip():
            previous_blank = True
            continue
        # An indented line continues a block, or begins one after a blank line.
        indented = line.startswith("    ") and (indented or previous_blank)
        (code if fenced or indented else prose).append(line)
        previous_blank = False
    return prose, code


def anchors_of(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    anchors: set[str] = set()
    for line in prose_and_code(text)[0]:
        if heading := re.fullmatch(r"#{1,6} (.+)", line):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
            slug = re.sub(r"[^\w\- ]", "", title).replace(" ", "-")
            repeated = next(number for number in range(len(anchors) + 1) if numbered(slug, number) not in anchors)
            anchors.add(numbered(slug, repeated))
    return anchors


def numbered(slug: str, number: int) -> str:
    """The anchor of the heading that has this text for the first time (0), the second time (1), and so on."""
    return f"{slug}-{number}" if number else slug


def broken_links(document: Path) -> Iterator[str]:
    """Relative links of a document whose file or anchor does not exist."""
    text = document.read_text(encoding="utf-8")
    for target in LINK.findall(CODE_SPAN.sub("", "\n".join(prose_and_code(text)[0]))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (anchor and anchor not in anchors_of(file.read_text(encoding="utf-8"))):
            yield target


def commands_in(text: str, program: str) -> Iterator[list[str]]:
    """The words of each command line of a program in the code blocks of a document, without comments."""
    for line in prose_and_code(text)[1]:
        command = COMMENTED.sub("", line).strip()
        if command.startswith(f"{program} "):
            yield [word for word in shlex.split(command.removeprefix(program)) if word != "..."]


def missing_paths(text: str, root: Path = ROOT) -> list[str]:
    """Paths of the tree in code spans that do not exist, from the root or inside the package.

    NAME, PART and FILE stand for what a reader chooses.
    """
    spans = (span for span in CODE_SPAN.findall("\n".join(prose_and_code(text)[0])) if TREE_PATH.fullmatch(span))
    named = [span for span in spans if "/" in span and not re.search("NAME|PART|FILE", span)]
    return [span for span in named if not any((base / span).exists() for base in (root, root / "genlangsplat_ns"))]


def defined_in(file: Path) -> set[str]:
    """Functions, classes and methods (`Class.method`) that a file defines."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{item.name}" for item in node.body if isinstance(item, ast.FunctionDef)}
    return names


def unknown_names(text: str, root: Path = ROOT) -> set[str]:
    """Names of code in code spans that occur nowhere in the tree: those with an underscore, and constants."""
    spans = CODE_SPAN.findall("\n".join(prose_and_code(text)[0]))
    names = {span for span in spans if re.fullmatch(r"_?[A-Za-z]+(_[A-Za-z]+)+|_[A-Z]+", span) and "NAME" not in span}
    files = [path for folder in ("genlangsplat_ns", "pretrain", "tests") for path in (root / folder).rglob("*.*")]
    known = {
        word
        for path in files
        if path.suffix in (".py", ".cpp", ".h")
        for word in re.findall(r"\w+", path.read_text(encoding="utf-8"))
    }
    return names - known


def steps_in(text: str) -> list[tuple[str, list[str]]]:
    """File and functions of each row of the table of steps: the second cell and the third cell."""
    rows = [line.strip("|").split("|") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    return [(CODE_SPAN.findall(row[2])[0], CODE_SPAN.findall(row[3])) for row in rows]


@each_document
def test_every_relative_link_leads_somewhere(document: Path) -> None:
    assert list(broken_links(document)) == []


@each_document
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_can_be_parsed(document: Path, program: str) -> None:
    for words in commands_in(document.read_text(encoding="utf-8"), program):
        commands = dict(PROGRAMS[program]())
        # An unknown command or option ends the process.
        assert isinstance(tyro.extras.subcommand_cli_from_dict(commands, args=words), commands[words[0]])


@pytest.mark.slow
def test_every_training_command_can_be_parsed() -> None:
    """In a process without the type checks of the tests, which nerfstudio's own defaults do not pass."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    lines = [words for text in texts for words in commands_in(text, "ns-train")]
    lines = [["gen-langsplat" if word == "METHOD" else word for word in words] for words in lines]
    command = [sys.executable, "-c", PARSE_TRAINING, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [words[0] for words in lines]


@each_document
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    prose, code = prose_and_code(document.read_text(encoding="utf-8"))
    named = [*CODE_SPAN.findall("\n".join(prose)), *(line.strip() for line in code)]
    assert {words[1] for line in named if (words := line.split())[0] == "make" and len(words) > 1} <= targets


def test_the_paths_in_the_guide_exist() -> None:
    assert missing_paths((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")) == []


def test_the_names_in_the_guide_exist() -> None:
    assert unknown_names((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")) == set()


def test_the_road_of_one_datum_names_functions_that_exist() -> None:
    steps = steps_in((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(steps) > 5
    unknown = [
        f"{file}: {name}"
        for file, names in steps
        for name in names
        if name not in defined_in(ROOT / "genlangsplat_ns" / file)
    ]
    assert unknown == []


def test_hooks_format_with_versions_that_the_project_accepts() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    pinned = {word for hook in hooks for word in hook.get("additional_dependencies", ())}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for tool in ("ruff", "clang-format"):
        (version,) = (word.split("==")[1] for word in pinned if word.startswith(f"{tool}=="))
        (accepted,) = re.findall(rf'"({tool}[<>=][^"]+)"', project)
        assert Requirement(accepted).specifier.contains(version)


def test_the_hook_of_clang_format_covers_what_make_formats() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (hook,) = (hook for repository in config["repos"] for hook in repository["hooks"] if hook["id"] == "clang-format")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (patterns,) = re.findall(r"^CPP_FILES := \$\(wildcard (.+)\)$", makefile, re.MULTILINE)
    files = [path.relative_to(ROOT).as_posix() for pattern in patterns.split() for path in ROOT.glob(pattern)]
    assert {Path(file).suffix for file in files} == {".h", ".cpp"}
    assert [file for file in files if not re.search(hook["files"], file)] == []


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text(
        "# Two words: `code`, and [more](x)\n\n    # no heading\n\n## Again\n\n## Again\n"
    )
    document = tmp_path / "page.md"
    good = "[a](other.md) [b](other.md#two-words-code-and-more) [c](other.md#again-1) [d](https://x.example) `[e](f)`"
    bad = "[g](gone.md) [h](other.md#no-heading) [i](#nowhere)"
    document.write_text(f"{good} {bad}\n\n    [j](code.md)\n")
    assert list(broken_links(document)) == ["gone.md", "other.md#no-heading", "#nowhere"]


def test_commands_are_read_from_blocks_of_code() -> None:
    text = 'Words.\n\n    run one --text "a b" ...  # why\n\n- an item\n    run not\n\n```\nrun two\n```\n'
    assert list(commands_in(text, "run")) == [["one", "--text", "a b"], ["two"]]


def test_unknown_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def read_map(): ...\n_ALL = 1\n")
    text = "`read_map` `_ALL` `_GONE` `read_nothing` `tests/test_a.py` `NAME_masks` `a word`"
    assert unknown_names(text, tmp_path) == {"_GONE", "read_nothing"}


def test_missing_paths_are_found() -> None:
    text = "`tests/conftest.py` `features/masks.py` `features/` `features/NAME.py` `features/gone.py` `rocket/`"
    assert missing_paths(text) == ["features/gone.py", "rocket/"]

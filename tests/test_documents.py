"""The documents are true to the tree: links, anchors, paths and functions exist, and commands can be parsed."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import tyro
import yaml
from packaging.requirements import Requirement

from genlangsplat_ns.cli import COMMANDS
from pretrain.__main__ import load_commands
from pretrain.embedding_commands import Train

ROOT = Path(__file__).parents[1]

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *(ROOT / folder / "README.md" for folder in ("benchmarks", "examples", "pretrain")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.md")),
]

FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE_SPAN = re.compile(r"`([^`\n]+)`")
TREE_PATH = re.compile(r"(?:[\w.-]+/)*[\w.-]+\.(?:py|h|cpp|md|toml|yaml|yml|safetensors)|(?:[\w.-]+/)+")
COMMENTED = re.compile(r"\s# .*$")
PROGRAMS: dict[str, Callable[[], dict[str, Any]]] = {
    "gen-langsplat": lambda: COMMANDS,
    "python -m pretrain": load_commands,
}

PARSE_NERFSTUDIO = """
import json, sys, tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.process_data import Commands as Process
from nerfstudio.scripts.render import Commands as Render
from nerfstudio.scripts.viewer.run_viewer import RunViewer
kinds = {
    "ns-train": AnnotatedBaseConfigUnion, "ns-eval": ComputePSNR, "ns-process-data": Process, "ns-render": Render,
    "ns-viewer": RunViewer,
}
parsed = [tyro.cli(kinds[program], args=words) for program, words in json.loads(sys.argv[1])]
print(json.dumps([getattr(settings, "method_name", "") for settings in parsed]))
"""

NERFSTUDIO = ("ns-train", "ns-eval", "ns-process-data", "ns-render", "ns-viewer")

SCRIPT = re.compile(r"python ((?:benchmarks|examples)/\w+\.py)")

NERFSTUDIO_FLAGS = {"help", "matching_method", "render_output_path", "traceback"}
"""Flags of programs of nerfstudio besides the settings of a training, and those of all our programs."""

MISSING = object()

FLAGS_OF_OTHERS = {"cpu"}
"""Flags of the program that a benchmark is given."""

FOREIGN = ("apt-get", "CloudCompare", "colmap", "echo", "make", "pdal", "pip", "python -m venv", "ray", "uv")
"""Programs whose commands are not parsed; targets of make have a test of their own."""


def name_of(path: Path) -> str:
    """The path of a document below the root, for the name of a test."""
    return path.relative_to(ROOT).as_posix()


each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)

each_page = pytest.mark.parametrize(
    "document",
    [path for path in DOCUMENTS if path.name != "CONTRIBUTING.md" and ".github" not in path.parts],
    ids=name_of,
)
"""For documents of users, whose indented blocks are commands."""


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


def is_known(line: str) -> bool:
    """Whether a test parses this command line, or its program is foreign."""
    programs = (*PROGRAMS, *NERFSTUDIO, *FOREIGN, "torchrun")
    return SCRIPT.match(line) is not None or any(line.startswith(f"{program} ") for program in programs)


def python_blocks(text: str) -> list[str]:
    """The fenced blocks of Python."""
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def missing_names(code: str) -> list[str]:
    """Names that a program imports from this project and that are not there."""
    froms = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom) and node.module]
    own = [node for node in froms if node.module.split(".")[0] in ("genlangsplat_ns", "pretrain")]
    named = [(import_module(node.module), alias.name) for node in own for alias in node.names]
    return [f"{module.__name__}.{name}" for module, name in named if not hasattr(module, name)]


def settings_in(file: Path) -> set[str]:
    """Names of annotated fields, of arguments and of the options of an argparse parser in a script: possible flags."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    fields = {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    options = [
        node.args[0].value
        for node in nodes
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".add_argument")
        if isinstance(node.args[0], ast.Constant)
    ]
    named = {option.removeprefix("--").replace("-", "_") for option in options}
    return fields | named | {node.arg for node in nodes if isinstance(node, ast.arg)}


def flags_in(text: str) -> set[str]:
    """Flags in the spans of code of a document, as paths of settings (`pipeline.model.decoder`)."""
    spans = CODE_SPAN.findall("\n".join(prose_and_code(text)[0]))
    found = {flag for span in spans if not span.startswith(FOREIGN) for flag in re.findall(r"(?<!\S)--([\w.-]+)", span)}
    return {flag.rstrip(".").replace("-", "_") for flag in found}


def has_setting(config: object, path: str) -> bool:
    """Whether a configuration has a setting below its parts."""
    for name in path.split("."):
        config = config.get(name, MISSING) if isinstance(config, dict) else getattr(config, name, MISSING)
    return config is not MISSING


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
def test_every_command_of_nerfstudio_can_be_parsed(tmp_path: Path) -> None:
    """In a process without the type checks of the tests, which nerfstudio's own defaults do not pass."""
    # ns-process-data looks for these programs when its settings are made.
    for program in ("colmap", "ffmpeg"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    places = os.pathsep.join((str(tmp_path), os.environ["PATH"]))
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    lines = [(name, words) for name in NERFSTUDIO for text in texts for words in commands_in(text, name)]
    lines = [(name, ["gen-langsplat" if word == "METHOD" else word for word in words]) for name, words in lines]
    command = [sys.executable, "-c", PARSE_NERFSTUDIO, json.dumps(lines)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PATH": places})
    assert done.returncode == 0, done.stdout + done.stderr
    methods = [words[0] if name == "ns-train" else "" for name, words in lines]
    assert json.loads(done.stdout.splitlines()[-1]) == methods


@each_page
def test_every_command_is_parsed_or_foreign(document: Path) -> None:
    _, code = prose_and_code(FENCED.sub("", document.read_text(encoding="utf-8")))
    lines = [COMMENTED.sub("", line).strip() for line in code]
    assert [line for line in lines if not is_known(line)] == []


@each_page
def test_every_script_exists_and_has_the_flags_that_are_shown(document: Path) -> None:
    for line in prose_and_code(document.read_text(encoding="utf-8"))[1]:
        if script := SCRIPT.match(line.strip()):
            known = settings_in(ROOT / script[1]) | settings_in(ROOT / "benchmarks/support/benchmark.py")
            flags = {word.replace("-", "_") for word in re.findall(r" --([\w-]+)", COMMENTED.sub("", line))}
            assert flags - known - FLAGS_OF_OTHERS == set(), line


@each_document
def test_training_with_several_processes_can_be_parsed(document: Path) -> None:
    for words in commands_in(document.read_text(encoding="utf-8"), "torchrun"):
        pretrain = words[words.index("pretrain") + 1 :]
        assert isinstance(tyro.extras.subcommand_cli_from_dict(dict(load_commands()), args=pretrain), Train)


@pytest.fixture(scope="module")
def all_settings() -> set[str]:
    """Names of all fields and arguments in the code, which may be flags."""
    folders = ("genlangsplat_ns", "pretrain", "benchmarks", "examples")
    return {name for folder in folders for file in (ROOT / folder).rglob("*.py") for name in settings_in(file)}


@each_page
def test_every_flag_in_the_text_exists(document: Path, all_settings: set[str]) -> None:
    from genlangsplat_ns.config import gen_langsplat

    flags = flags_in(document.read_text(encoding="utf-8"))
    training = {flag for flag in flags if has_setting(gen_langsplat.config, flag)}
    others = {flag for flag in flags - training if not flag.startswith("pipeline.")}
    known = {flag for flag in others if flag.split(".")[-1].removeprefix("no_") in all_settings | NERFSTUDIO_FLAGS}
    assert flags - training - known == set()


@each_document
def test_programs_in_python_import_what_exists(document: Path) -> None:
    blocks = python_blocks(document.read_text(encoding="utf-8"))
    assert [name for block in blocks for name in missing_names(block)] == []


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


def test_unknown_programs_and_names_are_found() -> None:
    assert is_known("python benchmarks/fox.py --quick") and is_known("ns-train gen-langsplat --data SCENE")
    assert flags_in("`--a.b-c 1` --no `x --d` `pip --e`") == {"a.b_c", "d"}
    assert has_setting({"a": ROOT}, "a.name") and not has_setting({"a": ROOT}, "a.rocket")
    assert not is_known("rocket --launch") and not is_known("python rocket.py")
    assert missing_names("from genlangsplat_ns import open_run, rocket") == ["genlangsplat_ns.rocket"]
    assert python_blocks("```python\na\n```\n```text\nb\n```\n") == ["a\n"]


def test_missing_paths_are_found() -> None:
    text = "`tests/conftest.py` `features/masks.py` `features/` `features/NAME.py` `features/gone.py` `rocket/`"
    assert missing_paths(text) == ["features/gone.py", "rocket/"]

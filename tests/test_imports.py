"""The plan of the package: which part may import which, and what an import costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PARTS = (
    ("errors", "levels", "__init__"),
    ("utils",),
    ("rasterization", "schedulers"),
    ("scene_io", "views"),
    ("language", "features", "dataparser", "photographs"),
    ("lifting", "evaluation", "viewer"),
    ("field_head", "splat_model", "datamanager"),
    ("model",),
    ("scene",),
    ("pipeline",),
    ("trainer",),
    ("run", "config"),
    ("demo", "installation", "web"),
    ("commands",),
    ("cli",),
)
"""The parts of the package, from the bottom up. A part imports only from rows below its own."""

LIBRARY = ("language", "lifting", "features", "evaluation", "rasterization", "utils")
"""Parts that can be used without nerfstudio."""

PRETRAIN_USES = ("language", "features", "utils", "errors", "levels")

MAX_TOP_FILES = 16


def modules(folder: Path) -> Iterator[tuple[str, ast.Module]]:
    """Dotted names and syntax trees of the modules below a folder."""
    for path in sorted(folder.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it; those only for type checkers too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str | None:
    """The part of the package that a dotted name belongs to; None for the package itself and for other packages."""
    package, *rest = module.split(".")
    return rest[0] if package == "genlangsplat_ns" and rest and rest[0] in RANKS else None


RANKS = {part: rank for rank, row in enumerate(PARTS) for part in row}
PACKAGE = dict(modules(ROOT / "genlangsplat_ns"))


def test_every_part_has_its_row() -> None:
    found = {path.stem for path in (ROOT / "genlangsplat_ns").glob("*.py")}
    found |= {path.name for path in (ROOT / "genlangsplat_ns").iterdir() if any(path.glob("*.py"))}
    assert found == set(RANKS)


def test_imports_run_downward() -> None:
    upward = {
        f"{name} imports {imported}"
        for name, tree in PACKAGE.items()
        for imported in imports(tree)
        if (own := part_of(name)) and (other := part_of(imported)) and own != other and RANKS[own] <= RANKS[other]
    }
    assert upward == set()


def test_modules_do_not_import_each_other_in_circles() -> None:
    # The `__init__` of a package only hands on names of its modules.
    files = {name: tree for name, tree in PACKAGE.items() if not (ROOT / name.replace(".", "/")).is_dir()}
    graph = {name: {other for other in imports(tree) if other in files} - {name} for name, tree in files.items()}
    while graph:
        leaves = {name for name, others in graph.items() if not others & graph.keys()}
        assert leaves, f"these modules form circles: {sorted(graph)}"
        graph = {name: others for name, others in graph.items() if name not in leaves}


@pytest.mark.parametrize("part", LIBRARY)
def test_the_library_does_not_know_nerfstudio(part: str) -> None:
    users = [
        name
        for name, tree in PACKAGE.items()
        if part_of(name) == part and any(imported.split(".")[0] == "nerfstudio" for imported in imports(tree))
    ]
    assert users == []


def test_pretraining_uses_the_library_alone() -> None:
    used = {part_of(imported) for _, tree in modules(ROOT / "pretrain") for imported in imports(tree)}
    assert used - {None} <= set(PRETRAIN_USES)


def test_only_commands_print() -> None:
    """The others log; the handler is the console's, and `utils.command_line` reports what ends a command."""
    printing = {
        part_of(name)
        for name, tree in PACKAGE.items()
        if any(imported == "genlangsplat_ns.utils.console.CONSOLE" for imported in imports(tree))
    }
    assert printing <= {"commands", "utils"}


def test_the_top_holds_only_what_nerfstudio_names() -> None:
    assert len(list((ROOT / "genlangsplat_ns").glob("*.py"))) <= MAX_TOP_FILES


def loaded_by(statement: str) -> set[str]:
    """The packages that a statement loads in a new process."""
    code = f"import sys; before = set(sys.modules); {statement}; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement",
    [
        "import genlangsplat_ns",
        "import genlangsplat_ns.cli",
        "from genlangsplat_ns.features.settings import FeatureSettings",
        "import genlangsplat_ns.evaluation, genlangsplat_ns.lifting, genlangsplat_ns.scene",
    ],
)
def test_looking_at_the_package_loads_neither_torch_nor_nerfstudio(statement: str) -> None:
    assert not loaded_by(statement) & {"torch", "nerfstudio", "gsplat", "cv2", "scipy", "sklearn"}


SIDE_EFFECTS = """
import sys, torch, yaml
hook, loaders = sys.excepthook, (yaml.Loader, yaml.UnsafeLoader)
handlers = {loader: dict(loader.yaml_constructors) for loader in loaders}
import genlangsplat_ns.config
assert sys.excepthook is hook
added = [loader.yaml_constructors.keys() - handlers[loader].keys() for loader in loaders]
assert added[0] == added[1] and all(":pathlib." in tag for tag in added[0]) and added[0], added
"""


def test_importing_the_plugin_hooks_nothing_but_readers_of_stored_runs() -> None:
    """An import lets YAML build the paths of other systems, and torch load the numpy scalars of checkpoints."""
    subprocess.run([sys.executable, "-c", SIDE_EFFECTS], check=True, capture_output=True, cwd=ROOT)

"""docs/licenses.md lists every dependency, with the license that the installed package declares."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from genlangsplat_ns.demo import photographs
from tests.release.project import ROOT, requirements

PAGE = (ROOT / "docs" / "licenses.md").read_text(encoding="utf-8")

DIRECT = re.compile(r"^\| `([\w.-]+)` \| (?:`(\w+)` )?\| ([^|]+) \|", re.MULTILINE)
"""Package, extra and license of a row of the tables of direct dependencies."""

INDIRECT = re.compile(r"^\| `([\w.-]+)` \| ([^|`]+) \| [^|]+ \|$", re.MULTILINE)

WORDING = {
    "Apache-2.0": r"Apache",
    "Apache-2.0 or BSD-2-Clause": r"Apache-2.0 OR BSD-2-Clause",
    "BSD-2-Clause": r"BSD-2-Clause|BSD License",
    "BSD-3-Clause": r"BSD|Redistribution and use in source",
    "BSD-3-Clause and others": r"BSD-3-Clause",
    "GPL-3.0-or-later": r"General Public License v3 or later",
    "ISC": r"ISC",
    "MIT": r"\bMIT\b(?!-)",
    "MIT-CMU": r"MIT-CMU|HPND",
    "MPL-2.0": r"MPL-2.0|Mozilla",
    "matplotlib (PSF-based)": r"Python Software Foundation|matplotlib",
}
"""What packages declare, by the name of the license in the page."""

RECIPROCAL = re.compile(r"\b[AL]?GPL|General Public License", re.IGNORECASE)


def declared_license(package: Distribution) -> str:
    """What the metadata of a package say about its license, and else the first lines of its license file.

    Of whole texts the beginning: some wheels append the texts of libraries that were compiled into them.
    """
    expression = package.metadata.get("License-Expression") or (package.metadata.get("License") or "")[:200]
    classifiers = [text for text in package.metadata.get_all("Classifier") or [] if text.startswith("License ::")]
    stated = " ".join([expression, *classifiers]).replace("UNKNOWN", "").strip()
    files = [] if stated else [file for file in package.files or [] if file.name.upper().startswith(("LICEN", "COPY"))]
    return stated or " ".join(file.read_text(encoding="utf-8")[:200] for file in files)


def needed_by(name: str, extras: set[str]) -> Iterator[Distribution]:
    """All installed packages that a package needs, directly or not."""
    todo, seen = [(name, frozenset(extras))], set()
    while todo:
        parent, chosen = todo.pop()
        try:
            package = distribution(parent)
        except PackageNotFoundError:
            continue
        if parent != name:
            yield package
        for needed in map(Requirement, package.requires or ()):
            key = (canonicalize_name(needed.name), frozenset(needed.extras))
            wanted = needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in (*chosen, ""))
            if wanted and key not in seen:
                seen.add(key)
                todo.append(key)


def test_every_direct_dependency_is_listed_under_its_extra() -> None:
    listed = [(canonicalize_name(name), extra) for name, extra, _ in DIRECT.findall(PAGE)]
    assert sorted(listed) == sorted((canonicalize_name(each.name), extra) for extra, each in requirements())


@pytest.mark.parametrize(("name", "license_name"), [(name, words.strip()) for name, _, words in DIRECT.findall(PAGE)])
def test_the_license_in_the_page_is_the_one_that_the_package_declares(name: str, license_name: str) -> None:
    try:
        declared = declared_license(distribution(name))
    except PackageNotFoundError:
        pytest.skip(f"needs {name}: make install")
    assert re.search(WORDING[license_name], declared), declared
    assert bool(RECIPROCAL.search(declared)) == license_name.startswith("GPL"), declared


def test_no_package_that_users_install_for_this_one_is_under_the_gpl() -> None:
    listed = {name: license_name for name, extra, license_name in DIRECT.findall(PAGE) if extra not in ("docs", "dev")}
    assert listed and not [name for name, license_name in listed.items() if RECIPROCAL.search(license_name)]


def test_packages_under_the_gpl_that_others_bring_along_are_named() -> None:
    named = {canonicalize_name(name) for name, _ in INDIRECT.findall(PAGE)}
    # A package with a choice of licenses is used under the other one.
    found = {
        canonicalize_name(package.name)
        for package in needed_by("genlangsplat-ns", {"embedded"})
        if re.search(r"\bA?GPL|(?<!Lesser )General Public License", text := declared_license(package))
        and not re.search(r"\bOR\b", text)
    }
    assert found - named == set()


def test_every_file_of_data_in_the_repository_is_explained() -> None:
    try:
        listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the files of a clone, as git lists them")
    kinds = (
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".webp",
        ".svg",
        ".safetensors",
        ".ckpt",
        ".json",
        ".npy",
        ".npz",
        ".ply",
        ".so",
        ".js",
    )
    files = [file for file in listing.splitlines() if file.endswith(kinds)]
    explained = re.findall(r"`([\w./-]+)`", PAGE)
    assert files and [file for file in files if not file.startswith(tuple(explained))] == []


def test_the_photographs_of_the_demo_are_listed() -> None:
    names = [name for name in vars(photographs) if isinstance(getattr(photographs, name), photographs.Photograph)]
    rows = PAGE.partition("## Photographs")[2].lower()
    spoken = {"SHUTTLE": "space shuttle"}
    assert names and [name for name in names if f"| {spoken.get(name, name.lower())} |" not in rows] == []


def test_declared_licenses_are_read_from_metadata_and_else_from_files(tmp_path: Path) -> None:
    info = tmp_path / "thing-1.dist-info"
    (info / "licenses").mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1\nLicense: UNKNOWN\n")
    (info / "licenses" / "LICENSE").write_text("MIT License\n")
    (info / "RECORD").write_text("thing-1.dist-info/licenses/LICENSE,,\n")
    assert declared_license(Distribution.at(info)) == "MIT License\n"
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: thing\nVersion: 1\nLicense-Expression: ISC\n")
    assert declared_license(Distribution.at(info)) == "ISC"

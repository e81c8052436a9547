"""The version stands in pyproject.toml; all other places agree with it."""

from __future__ import annotations

import re
from datetime import date

import yaml

import genlangsplat_ns
from tests.release.project import ROOT, project

CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")

SECTION = re.compile(r"^## \[([^\]]+)\](?: - (\S+))?$", re.MULTILINE)
"""Version and date of a section of the changelog."""

KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_package_says_the_version_of_the_project() -> None:
    """After a change of the version, `make install` writes the metadata anew."""
    assert genlangsplat_ns.__version__ == project()["version"]


def test_the_citation_names_this_version_and_this_license() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == project()["version"]
    assert citation["license"] == project()["license"]
    assert citation["abstract"] == project()["description"]


def test_the_newest_section_of_the_changelog_is_this_version() -> None:
    sections = SECTION.findall(CHANGELOG)
    versions = [version for version, _ in sections if version != "Unreleased"]
    assert sections[0] == ("Unreleased", "") and versions[0] == project()["version"]
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)


def test_released_sections_have_dates_in_order() -> None:
    """Only the newest one may still lack its date."""
    days = [day for version, day in SECTION.findall(CHANGELOG) if version != "Unreleased"]
    dates = [date.fromisoformat(day) for day in days[0 if days[0] else 1 :]]
    assert dates == sorted(dates, reverse=True)


def test_changes_are_grouped_by_their_kind() -> None:
    kinds = re.findall(r"^### (.+)$", CHANGELOG, re.MULTILINE)
    assert kinds and set(kinds) <= KINDS


def test_no_other_file_of_the_package_states_a_version() -> None:
    """Only the metadata have it, so that a release changes one line of code."""
    version = re.compile(rf"(?<![\d.]){re.escape(project()['version'])}(?![\d.])")
    files = [path for folder in ("genlangsplat_ns", "pretrain") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in files if version.search(path.read_text(encoding="utf-8"))] == []

"""Tags are the version of the project, and its section in the changelog is dated."""

from __future__ import annotations

import pytest

from release.check_tag import tag_fault
from tests.release.project import ROOT, project

PROJECT = '[project]\nname = "x"\nversion = "1.2.0"\n'

DATED = "# Changelog\n\n## [Unreleased]\n\n## [1.2.0] - 2026-01-31\n\n## [1.1.0] - 2025-01-31\n"


def test_the_tag_of_a_dated_version_is_accepted() -> None:
    assert tag_fault("v1.2.0", PROJECT, DATED) == ""


@pytest.mark.parametrize(
    ("tag", "text", "changelog", "fault"),
    [
        ("v1.1.0", PROJECT, DATED, "expected the tag v1.2.0"),
        ("1.2.0", PROJECT, DATED, "expected the tag v1.2.0"),
        ("v1.2.0", PROJECT, DATED.replace(" - 2026-01-31", ""), "has no date"),
        ("v1.2.0", PROJECT, DATED.replace("1.2.0", "1x2x0"), "no section"),
        ("v1.2.0", "[project]\n", DATED, "states no version"),
    ],
)
def test_other_tags_are_refused(tag: str, text: str, changelog: str, fault: str) -> None:
    assert fault in tag_fault(tag, text, changelog)


def test_the_version_of_this_project_is_found() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    dated = DATED.replace("1.2.0", project()["version"])
    assert tag_fault(f"v{project()['version']}", text, dated) == ""

"""Checks that a tag fits the project: `python release/check_tag.py v0.1.0`. It needs only Python."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def tag_fault(tag: str, project: str, changelog: str) -> str:
    """What is wrong with a tag, given the texts of pyproject.toml and of the changelog; empty if nothing is."""
    version = re.search(r'^version = "([^"]+)"$', project, re.MULTILINE)
    if version is None:
        return "pyproject.toml states no version."
    if tag != f"v{version[1]}":
        return f"The tag is {tag}, but pyproject.toml has version {version[1]}; expected the tag v{version[1]}."
    section = re.search(rf"^## \[{re.escape(version[1])}\](?: - (\S+))?$", changelog, re.MULTILINE)
    if section is None:
        return f"CHANGELOG.md has no section [{version[1]}]."
    if section[1] is None:
        return f"The section [{version[1]}] of CHANGELOG.md has no date; expected `## [{version[1]}] - YEAR-MONTH-DAY`."
    return ""


if __name__ == "__main__":
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "CHANGELOG.md")]
    sys.exit(tag_fault(sys.argv[1], *texts) or None)

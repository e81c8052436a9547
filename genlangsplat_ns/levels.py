"""The three mask levels, finest first."""

from __future__ import annotations

LEVELS: tuple[str, ...] = ("subpart", "part", "whole")
"""Names of the mask levels (LangSplat's s, m and l); a level's index is its place in every `levels` axis."""

"""A valid file from which fuzzing starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bytes", "text", "json"]


def as_it_is(content: bytes) -> bytes:
    """Returns the content."""
    return content


@dataclass(frozen=True)
class Seed:
    """A valid file, or the part of it that is changed."""

    file: str
    """Its path in the folder of the parser."""
    inner: bytes
    """What is changed."""
    kind: Kind = "bytes"
    seal: Callable[[bytes], bytes] = as_it_is
    """Makes the file from the changed part: compresses it, puts it into an archive, or computes a hash."""

    @property
    def valid(self) -> bytes:
        """The file without a change."""
        return self.seal(self.inner)

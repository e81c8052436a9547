"""The one error type of the project."""

from __future__ import annotations


class GenLangSplatError(Exception):
    """A problem the user can act on: the message says what was found, what was expected and what to do next.

    Library code raises it as early as it can; the commands catch it once, print the message and exit with code 1.
    """

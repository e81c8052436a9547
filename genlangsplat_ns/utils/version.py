"""The version of the installed package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("genlangsplat-ns")
except PackageNotFoundError:  # A source tree that was never installed.
    __version__ = "0.0.0"

"""The subcommands of `gen-langsplat`, one file each.

A file holds a dataclass, whose fields are the flags, and the few lines that call the library and print what it
returns. `cli.py` lists the commands; `run_settings.py` holds the flags that commands on finished runs share. Settings
that the library has too are declared there: queries and selections (`--threshold`) in `language/settings.py`, cameras
and evaluation in `scene/settings.py`, masks and encoders in `features/settings.py`, views in `views/settings.py`.

Importing a command imports neither torch nor nerfstudio, so that `--help` answers at once. The library below logs and
returns its results; only the files here and `utils/console.py` print.
"""

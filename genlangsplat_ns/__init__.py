"""Gen-LangSplat for nerfstudio: 3D Gaussian scenes that understand words.

    from genlangsplat_ns import open_run

    scene = open_run("outputs/fox/gen-langsplat-lite/RUN/config.yml")
    answer = scene.ask("a fox", scene.views("eval")[0])

The files at the top are the plugin: what nerfstudio names in its configs and holds while it trains. Everything else
lies in packages, and imports run one way:

    cli -> commands -> demo, installation -> run, config -> trainer -> pipeline -> scene -> model, datamanager
        -> viewer, lifting, evaluation -> language, features -> scene_io, views -> rasterization -> utils

`pipeline` decides encoder, masks and autoencoder of a run and switches its phases; `model` trains and renders;
`datamanager` serves views and their features; `run` opens a finished run. `language` holds queries and the field that
answers them, `features` turns photographs into regions and embeddings, `lifting` turns those into one latent per
Gaussian, `scene` is a trained scene with all that can be done with it, and `commands` has one file for each subcommand
of `gen-langsplat`. Importing this package loads none of them.
"""

from typing import TYPE_CHECKING

from genlangsplat_ns.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from genlangsplat_ns.language.field import LanguageField
    from genlangsplat_ns.language.named_autoencoders import load_autoencoder
    from genlangsplat_ns.language.query import TextQuery
    from genlangsplat_ns.run import open_run
    from genlangsplat_ns.utils.version import __version__

__all__ = ["LanguageField", "TextQuery", "__version__", "load_autoencoder", "open_run"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "LanguageField": "genlangsplat_ns.language.field",
        "TextQuery": "genlangsplat_ns.language.query",
        "__version__": "genlangsplat_ns.utils.version",
        "load_autoencoder": "genlangsplat_ns.language.named_autoencoders",
        "open_run": "genlangsplat_ns.run",
    },
)

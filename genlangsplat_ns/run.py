"""Opens a finished run from its config.yml."""

from __future__ import annotations

import sys
from pathlib import Path

from nerfstudio.engine.trainer import TrainerConfig

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.settings import DecoderName
from genlangsplat_ns.pipeline import GenLangSplatPipeline
from genlangsplat_ns.scene.language_scene import LanguageScene
from genlangsplat_ns.scene_io.installed_methods import installed_methods_only
from genlangsplat_ns.scene_io.runs import StoredRun, read_config
from genlangsplat_ns.trainer import GenLangSplatTrainerConfig
from genlangsplat_ns.utils.console import hide, is_shown


def open_run(
    config_path: str | Path,
    decoder: DecoderName | None = None,
    require_language: bool = True,
    data: str | Path | None = None,
    photographs: bool = True,
) -> LanguageScene:
    """Opens the newest checkpoint of a run.

    Args:
        config_path: The run's `config.yml`. The checkpoints lie beside it, also if the run was moved or renamed.
            nerfstudio's loader executes code named in it: open only runs you trust.
        decoder: Decoder of the latents; None for the decoder of the run. With `autoencoder` a damaged memory is
            ignored.
        require_language: Raise an error if the run has not reached its language phase.
        data: Folder of the scene's data, if it moved since the training; None for the path in `config.yml`. A relative
            path is also searched for in the folders around the run.
        photographs: Whether the data must be there. Without them, the scene has no views.

    Raises:
        GenLangSplatError: The file is no run of this project, the run lacks the required language phase or memory, or
            its checkpoints or required data are missing.
    """
    # nerfstudio imports this package while it registers its methods, so this import cannot be at the top.
    with installed_methods_only():
        from nerfstudio.utils.eval_utils import eval_setup

    config_path = Path(config_path)
    folder = None if data is None else Path(data)
    config = read_config(config_path)
    if not isinstance(config, GenLangSplatTrainerConfig):
        kind = getattr(config, "method_name", None) or type(config).__name__
        raise GenLangSplatError(
            f"{config_path} is a run of {kind}, expected a run of gen-langsplat. Train one with "
            "`ns-train gen-langsplat --data SCENE`."
        )

    def adjust(config: TrainerConfig) -> TrainerConfig:
        assert isinstance(config, GenLangSplatTrainerConfig), "it was checked above"
        config.open_at(config_path, folder, photographs)
        if decoder is not None:
            config.pipeline.model.decoder = decoder
        return config

    hook, shown = sys.excepthook, is_shown()
    try:
        _, pipeline, checkpoint, _ = eval_setup(config_path, test_mode="test", update_config_callback=adjust)
    except OSError as error:
        if error.filename is not None:
            raise
        # An error of a disk while torch reads the checkpoint does not name it.
        raise GenLangSplatError(
            f"A file of {config_path.parent} cannot be read ({error.strerror or error}). Check the disk, then run the "
            "same command again."
        ) from error
    finally:
        # Loading a run installs an exception hook for nerfstudio's commands, which scripts must not inherit.
        sys.excepthook = hook
        if not shown:
            hide()
    assert isinstance(pipeline, GenLangSplatPipeline), "its config has no other"
    stored = StoredRun(config_path, checkpoint, folder, config.experiment_name)
    scene = LanguageScene(pipeline.model, pipeline.datamanager, stored)
    if decoder is not None:
        scene.model.decode_by(decoder)
    if require_language:
        _ = scene.field
    return scene

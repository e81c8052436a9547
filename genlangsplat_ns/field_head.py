"""The frozen decoder of the autoencoder as a nerfstudio field head."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from nerfstudio.field_components.field_heads import FieldHead, FieldHeadNames
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder


class LanguageFieldHead(FieldHead):
    """Turns rendered latents into embeddings of the image-text space (paper, section on querying).

    It holds the whole scene-independent autoencoder, frozen: the encoder makes the targets of the language phase, the
    decoder answers queries. Its weights and identity travel in the checkpoint, so that a run needs no other file.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        identity = autoencoder.identity
        super().__init__(
            out_dim=identity.embedding_dim, field_head_name=FieldHeadNames.SEMANTICS, in_dim=identity.latent_dim
        )
        self.autoencoder = autoencoder.requires_grad_(False).eval()

    def _construct_net(self) -> None:
        """The network is the autoencoder, which exists already."""

    def forward(self, in_tensor: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Decodes latents of any length to unit embeddings."""
        return self.autoencoder.decode(in_tensor)

    def train(self, mode: bool = True) -> LanguageFieldHead:
        """Stays in evaluation mode: the autoencoder is never trained inside a scene."""
        return super().train(False)

    def get_extra_state(self) -> dict[str, Any]:
        """Returns the autoencoder's identity for the checkpoint."""
        return asdict(self.autoencoder.identity)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Checks that the checkpoint was made with the autoencoder the config names.

        Raises:
            GenLangSplatError: The two identities differ.
        """
        own = asdict(self.autoencoder.identity)
        if state != own:
            differing = sorted(key for key in own.keys() | state.keys() if own.get(key) != state.get(key))
            found = {key: state.get(key) for key in differing}
            expected = {key: own.get(key) for key in differing}
            raise GenLangSplatError(
                f"The checkpoint was made with another autoencoder: it has {found}, the config asks for {expected}. "
                "Point --pipeline.model.autoencoder (or model.autoencoder in config.yml) to the artefact the run was "
                "trained with, or train the language phase again."
            )

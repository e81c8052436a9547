"""The frozen decoder of the autoencoder as a nerfstudio field head."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from jaxtyping import Float
from nerfstudio.field_components.field_heads import FieldHead, FieldHeadNames
from torch import Tensor

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.autoencoder import Autoencoder, AutoencoderIdentity

LOGGER = logging.getLogger(__name__)


class LanguageFieldHead(FieldHead):
    """Decodes rendered latents to embeddings of the image-text space (paper, section on querying).

    It contains the whole frozen autoencoder: the encoder computes the targets of the language phase, and the decoder
    answers queries. Checkpoints contain its weights and identity, so that a run needs no other file.
    """

    def __init__(self, autoencoder: Autoencoder) -> None:
        identity = autoencoder.identity
        super().__init__(
            out_dim=identity.embedding_dim, field_head_name=FieldHeadNames.SEMANTICS, in_dim=identity.latent_dim
        )
        self.autoencoder = autoencoder.requires_grad_(False).eval()

    @property
    def latent_dim(self) -> int:
        """Width D of the latents."""
        return self.autoencoder.identity.latent_dim

    def _construct_net(self) -> None:
        """Does nothing, because the autoencoder is the network."""

    def forward(self, in_tensor: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Decodes latents of any length to unit embeddings."""
        return self.autoencoder.decode(in_tensor)

    def train(self, mode: bool = True) -> LanguageFieldHead:
        """Stays in evaluation mode, because the autoencoder is never trained in a scene."""
        return super().train(False)

    def take_autoencoder(self, checkpoint: Mapping[str, Any], prefix: str) -> bool:
        """Replaces the autoencoder if a checkpoint contains another one for the same encoder.

        The choice of `auto` changes when autoencoders are exported, and early versions fitted an autoencoder to the
        scene. A run keeps the one it was trained with. The entries of this module begin with `prefix`; the caller loads
        the weights afterwards. Returns whether the autoencoder was replaced.
        """
        entries, own = checkpoint.get(f"{prefix}_extra_state"), self.autoencoder.identity
        identity = own if entries is None else AutoencoderIdentity.from_entries(entries)
        if identity == own or identity.encoder != own.encoder:
            return False
        device = next(self.autoencoder.parameters()).device
        self.autoencoder = Autoencoder(identity).to(device).requires_grad_(False).eval()
        self.in_dim, self.out_dim = identity.latent_dim, identity.embedding_dim
        LOGGER.info("Using the autoencoder of the checkpoint, %s.", identity.name)
        return True

    def get_extra_state(self) -> dict[str, Any]:
        """Returns the autoencoder's identity for the checkpoint."""
        return asdict(self.autoencoder.identity)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Checks that the checkpoint was made with the autoencoder of the config.

        Raises:
            GenLangSplatError: The two identities differ.
        """
        own, stored = asdict(self.autoencoder.identity), asdict(AutoencoderIdentity.from_entries(state))
        if stored != own:
            differing = sorted(key for key in own if own[key] != stored[key])
            found, expected = ({key: identity[key] for key in differing} for identity in (stored, own))
            raise GenLangSplatError(
                f"The checkpoint was made with another autoencoder: it has {found}, but the config asks for "
                f"{expected}. Set --pipeline.model.autoencoder (or model.autoencoder in config.yml) to the file the "
                "run was trained with, or train the language phase again."
            )

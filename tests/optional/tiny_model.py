"""A language model of random weights, small enough to make anew for each test (LLaMA, 0.2 MB)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import gguf
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

CONTEXT_TOKENS: Final = 1024
WIDTH: Final = 32
HIDDEN: Final = 64
LAYERS: Final = 2
HEADS: Final = 4
SPECIAL: Final = ("<unk>", "<s>", "</s>")
TOKENS: Final = (*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)))
"""Without words each byte of a prompt is a token of its own."""


def write_tiny_model(path: Path, *, seed: int = 1) -> None:
    """Write the model as GGUF (format of ggml, 2023)."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    _add_tokens(writer)
    random = np.random.default_rng(seed)
    for name, shape in _shapes().items():
        ones = name.endswith("norm.weight")
        values = np.ones(shape) if ones else random.normal(0.0, 0.1, shape)
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tokens(writer: gguf.GGUFWriter) -> None:
    control, unknown, byte = (
        gguf.TokenType.CONTROL,
        gguf.TokenType.UNKNOWN,
        gguf.TokenType.BYTE,
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types([unknown, control, control, *[byte] * 256])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _shapes() -> dict[str, tuple[int, ...]]:
    """Rows are outputs, columns inputs."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(TOKENS), WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (len(TOKENS), WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        shapes |= {f"{block}.{norm}_norm.weight": (WIDTH,) for norm in ("attn", "ffn")}
        shapes |= {
            f"{block}.attn_{part}.weight": (WIDTH, WIDTH) for part in ("q", "k", "v", "output")
        }
        shapes |= {f"{block}.ffn_{part}.weight": (HIDDEN, WIDTH) for part in ("gate", "up")}
        shapes[f"{block}.ffn_down.weight"] = (WIDTH, HIDDEN)
    return shapes

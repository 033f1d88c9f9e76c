"""llama.cpp's own server under our rules: every token it computed, and no other.

Not collected with the others, because the server must be compiled first: see README.md.
"""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from stack.peers import start_prometheus
from stack.processes import LOOPBACK, Peer, free_port, launch
from stack.query import eventually, fetch, instant
from tests.optional.rules import PATIENCE_S, recorded, scraping
from tests.optional.tiny_model import write_tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack.programs import Program

MODEL: Final = "tiny"
PROMPT: Final = "The energy of a bit is k T ln 2. " * 4


class Reply(NamedTuple):
    """Tokens that the server says it handled for one request."""

    computed: int
    cached: int
    generated: int


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Peer]:
    """The server with the model of random weights, four requests at once."""
    program = os.environ.get("LLAMA_SERVER") or shutil.which("llama-server")
    if program is None:
        pytest.fail("llama-server is neither in LLAMA_SERVER nor on the PATH: see README.md here")
    model = tmp_path / "tiny.gguf"
    write_tiny_model(model)
    port = free_port()
    command: list[str | Path] = [program, "--model", model, "--host", LOOPBACK]
    command += ["--port", str(port), "--metrics", "--parallel", "4", "--ctx-size", "4096"]
    with launch("llama-server", command, port=port, directory=tmp_path) as peer:
        yield peer.await_ready("/health", within_s=PATIENCE_S)


def ask(server: Peer, prompt: str, tokens: int) -> Reply:
    """Have so many tokens generated, even where the model would stop."""
    asked = {"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": True}
    said = json.loads(fetch(f"{server.url}/completion", data=json.dumps(asked).encode()))
    timings = said["timings"]
    return Reply(timings["prompt_n"], timings["cache_n"], timings["predicted_n"])


def counters(server: Peer) -> tuple[float, float]:
    """Prompt tokens computed, and tokens generated, as the server counts them."""
    text = fetch(f"{server.url}/metrics").decode()
    values = dict(line.split() for line in text.splitlines() if not line.startswith("#"))
    names = ("llamacpp:prompt_tokens_total", "llamacpp:tokens_predicted_total")
    return float(values[names[0]]), float(values[names[1]])


def test_prompt_tokens_from_the_cache_are_not_computed_ones(server: Peer) -> None:
    first = ask(server, PROMPT, 16)
    again = ask(server, PROMPT, 16)
    assert again.cached > first.cached

    assert counters(server) == (first.computed + again.computed, 32)


def test_the_rules_give_the_tokens_that_the_replies_tell(
    server: Peer, prometheus: Program, tmp_path: Path
) -> None:
    labels = {"namespace": "", "pod": "llama.service", "model_name": MODEL}
    config = scraping(server.address, labels, tmp_path)
    with start_prometheus(prometheus, tmp_path / "prometheus", config) as peer:

        def rate(name: str, label: str) -> dict[str, float]:
            return recorded(peer.url, name, MODEL, label)

        seen = 'llamacpp:tokens_predicted_total{pod="llama.service"} == 0'
        assert eventually(partial(instant, peer.url, seen), within_s=PATIENCE_S)
        replies = [ask(server, f"{number} {PROMPT}", 8 + 8 * number) for number in range(6)]
        computed = sum(reply.computed for reply in replies)
        generated = sum(reply.generated for reply in replies)
        assert counters(server) == (computed, generated)

        complete = f"llamacpp:tokens_predicted_total == {generated}"
        assert eventually(partial(instant, peer.url, complete), within_s=PATIENCE_S)

        def settled() -> bool:
            tokens = rate("tokens:rate5m", "direction")
            return tokens.keys() == {"input", "output"} and tokens["output"] == pytest.approx(
                tokens["input"] * generated / computed
            )

        assert eventually(settled, within_s=PATIENCE_S), rate("tokens:rate5m", "direction")
        assert rate("requests:sum", "state") == {"running": 0, "waiting": 0}
        assert rate("engines:sum", "server") == {"llamacpp": 1}

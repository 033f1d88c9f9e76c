"""vLLM's own server under our rules, alone and under Ray Serve: what its clients got, and no more.

Not collected with the others, because the servers are large: see README.md.
"""

from __future__ import annotations

import json
import re
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from stack.peers import start_prometheus
from stack.processes import LOOPBACK, free_port
from stack.query import eventually, fetch, instant
from tests.optional import tiny_model
from tests.optional.peer import SCRIPTS, start
from tests.optional.rules import PATIENCE_S, recorded, scraping

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stack.processes import Peer
    from stack.programs import Program

START_S: Final = 300.0
ROUNDS: Final = 3
SLOTS: Final = 2
LONG: Final = 4000
SEEN: Final = 20
NEAR: Final = 0.001
ENVIRONMENT: Final = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
OPTIONS: Final = {
    "dtype": "float32",
    "max_model_len": tiny_model.CONTEXT,
    "max_num_seqs": SLOTS,
    # Of the machine's memory, which must be free although the cache has a size of its own.
    "gpu_memory_utilization": 0.05,
    "kv_cache_memory_bytes": 64 * 2**20,
    "enforce_eager": True,
    "enable_mfu_metrics": True,
    "enable_prompt_tokens_details": True,
}


COUNTERS: Final = {
    "request_success_total": "",
    "prompt_tokens_by_source_total": 'source="local_compute"',
    "generation_tokens_total": "",
}


class Counts(NamedTuple):
    """What was asked of a server, by its clients or by its counters."""

    sequences: int
    computed_tokens: int
    generated_tokens: int

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(*map(sum, zip(self, other, strict=True)))


class Server(NamedTuple):
    """A running vLLM: where it answers and counts, and how its series begin."""

    url: str
    metrics: str
    prefix: str
    server: str


@contextmanager
def alone(folder: Path, **more: object) -> Iterator[Server]:
    """The OpenAI server of vLLM over the tiny model."""
    port, model = free_port(), tiny_model.write(folder / "model")
    options = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in {**OPTIONS, **more}.items()
    ]
    module = ["-m", "vllm.entrypoints.openai.api_server", f"--model={model}"]
    where = ["--served-model-name=tiny", f"--host={LOOPBACK}", f"--port={port}"]
    command = [*module, *where, *options]
    with start("vllm", command, port=port, folder=folder, environment=ENVIRONMENT) as peer:
        peer.await_ready("/health", within_s=START_S)
        yield Server(peer.url, peer.address, "vllm:", "vllm")


@contextmanager
def under_ray(folder: Path) -> Iterator[Server]:
    """The same engine in Ray Serve's application of language models."""
    port, metrics, model = free_port(), free_port(), tiny_model.write(folder / "model")
    script = str(SCRIPTS / "ray_vllm.py")
    command = [script, str(port), str(metrics), str(model), json.dumps(OPTIONS)]
    with start("ray", command, port=port, folder=folder, environment=ENVIRONMENT) as peer:
        peer.await_ready("/v1/models", within_s=START_S)
        try:
            yield Server(peer.url, f"{LOOPBACK}:{metrics}", "ray_vllm_", "ray-vllm")
        finally:
            # Its workers are not in its process group: it must have the time to end them.
            peer.stop(within_s=PATIENCE_S)


@contextmanager
def both(programs: tuple[Program, Program], metrics: str, folder: Path) -> Iterator[list[Peer]]:
    """Both lines of Prometheus over one server, with the rules."""
    config = scraping(metrics, {"namespace": "prod", "pod": "llama-5d4f9c8b7-xk2lp"}, folder)
    old, new = programs
    with (
        start_prometheus(old, folder / "prometheus2", config) as first,
        start_prometheus(new, folder / "prometheus3", config) as second,
    ):
        yield [first, second]


def request(url: str, prompt: str, tokens: int, **more: object) -> urllib.request.Request:
    """A prompt that is answered with that many tokens."""
    asked = {"model": "tiny", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True, **more}
    header = {"Content-Type": "application/json"}
    body = json.dumps(asked).encode()
    return urllib.request.Request(f"{url}/v1/completions", data=body, headers=header)  # noqa: S310


def complete(url: str, prompt: str, tokens: int, *, samples: int = 1) -> Counts:
    """Have a prompt answered; returns what the server told the client."""
    asked = request(url, prompt, tokens, n=samples)
    with urllib.request.urlopen(asked, timeout=START_S) as answer:  # noqa: S310
        told = json.load(answer)
    usage = told["usage"]
    computed = samples * usage["prompt_tokens"] - usage["prompt_tokens_details"]["cached_tokens"]
    return Counts(len(told["choices"]), computed, usage["completion_tokens"])


def ask(url: str, number: int) -> Counts:
    """A long prompt, the same again, most of which is cached, and three answers to a short one."""
    prompt = f"{number} {'x' * 300}"
    first, second = complete(url, prompt, 20), complete(url, prompt, 20)
    assert first.computed_tokens == len(prompt) > 2 * second.computed_tokens
    return first.plus(second).plus(complete(url, f"{number} times", 7, samples=3))


def exposed(server: Server) -> Counts:
    """The counters in the server's own text, 0 where there are none yet."""
    text = fetch(f"http://{server.metrics}/metrics").decode()
    totals = []
    for name, label in COUNTERS.items():
        found = re.findall(rf"(?m)^{server.prefix}{name}{{(.*)}} (\S+)$", text)
        totals.append(int(sum(float(value) for labels, value in found if label in labels)))
    return Counts(*totals)


def counted(url: str, prefix: str) -> Counts:
    """The counters of the server as Prometheus has them."""
    found = (instant(url, f"sum({prefix}{name}{{{COUNTERS[name]}}})") for name in COUNTERS)
    return Counts(*(int(one[0]["value"][1]) if one else 0 for one in found))


def awaits(peer: Peer, prefix: str, expected: Counts) -> None:
    """The counters of the server become what the clients got."""
    read = partial(counted, peer.url, prefix)
    assert eventually(lambda: read() == expected, within_s=PATIENCE_S), (read(), expected)


def check_ratio(peer: Peer, name: str, expected: float) -> None:
    """The recorded rate, per inference, becomes what a client got per inference."""
    ratio = f"sum(workload:joulefloor_{name}) / sum(workload:joulefloor_inferences:rate5m)"
    near = f"{ratio} > {expected * (1 - NEAR)} < {expected * (1 + NEAR)}"
    found = eventually(partial(instant, peer.url, near), within_s=PATIENCE_S)
    assert found, (name, expected, instant(peer.url, ratio))


def check_rates(peer: Peer, server: str, got: Counts) -> None:
    """One series of inferences; tokens as the clients saw them, operations as the weights say."""
    only = "workload:joulefloor_inferences:rate5m"
    alone = partial(instant, peer.url, f"{only} and on () (count({only}) == 1)")
    (found,) = eventually(alone, within_s=PATIENCE_S)
    assert found["metric"] == {
        "__name__": only,
        "workload_namespace": "prod",
        "workload": "llama",
        "model": "tiny",
        "server": server,
        "role": "engine",
        "unit": "request",
    }
    check_ratio(peer, 'tokens:rate5m{direction="output"}', got.generated_tokens / got.sequences)
    check_ratio(peer, 'tokens:rate5m{direction="input"}', got.computed_tokens / got.sequences)
    operations = "sum(workload:joulefloor_operations_per_accelerator:ratio5m)"
    per_token = f"{operations} / sum(workload:joulefloor_tokens:rate5m)"
    (value,) = eventually(partial(instant, peer.url, per_token), within_s=PATIENCE_S)
    # Attention comes on top of the weights.
    assert 1 < float(value["value"][1]) / (2 * tiny_model.WEIGHTS) < 2


def check_full(peer: Peer, full: dict[str, int]) -> None:
    """The recorded requests become these, by state."""
    states = partial(recorded, peer.url, "requests:sum", "tiny", "state")
    assert eventually(lambda: states() == full, within_s=PATIENCE_S), states()


def check_batch(peers: list[Peer], server: Server, *, engines: int) -> Counts:
    """More requests than slots: the slots are taken and the rest waits; returns what they got."""
    full = {"running": SLOTS * engines, "waiting": 1}
    prompts = [f"prompt {number}" for number in range(sum(full.values()))]
    with ThreadPoolExecutor(len(prompts)) as clients:
        answers = [clients.submit(complete, server.url, prompt, LONG) for prompt in prompts]
        for peer in peers:
            check_full(peer, full)
            assert recorded(peer.url, "engines:sum", "tiny", "server") == {server.server: engines}
        got = Counts(0, 0, 0)
        for answer in answers:
            got = got.plus(answer.result())
    return got


def hang_up(url: str) -> None:
    """Ask for a long answer and leave after the first tokens."""
    seen = 0
    with urllib.request.urlopen(request(url, "bye", LONG, stream=True)) as answer:  # noqa: S310
        while seen < SEEN:
            seen += answer.readline().startswith(b"data:")


@pytest.mark.parametrize("serving", [alone, under_ray])
def test_what_clients_got_is_recorded(
    serving: Callable[[Path], AbstractContextManager[Server]],
    prometheus2: Program,
    prometheus3: Program,
    tmp_path: Path,
) -> None:
    """Samples of one prompt are sequences of their own; cached tokens are not computed ones."""
    with ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path))
        # Under Ray a counter begins with the first request, which a rate cannot see: all that is
        # counted later is a multiple of this, so that rates begin at multiples as well.
        got = ask(server.url, 0)
        assert eventually(lambda: exposed(server) == got, within_s=PATIENCE_S), exposed(server)
        programs = (prometheus2, prometheus3)
        peers = stack.enter_context(both(programs, server.metrics, tmp_path))
        for peer in peers:
            awaits(peer, server.prefix, got)
        for number in range(1, ROUNDS + 1):
            got = got.plus(ask(server.url, number))
        for peer in peers:
            awaits(peer, server.prefix, got)
            check_rates(peer, server.server, got)
        got = got.plus(check_batch(peers, server, engines=1))
        for peer in peers:
            awaits(peer, server.prefix, got)


def test_an_abandoned_request_is_no_inference_though_its_tokens_count(
    prometheus3: Program, tmp_path: Path
) -> None:
    with alone(tmp_path) as server:
        config = scraping(server.metrics, {"namespace": "prod", "pod": "llama"}, tmp_path)
        with start_prometheus(prometheus3, tmp_path / "prometheus", config) as peer:
            hang_up(server.url)
            tokens = f"sum(vllm:generation_tokens_total) >= {SEEN}"
            assert eventually(partial(instant, peer.url, tokens), within_s=PATIENCE_S)
            finished = complete(server.url, "hello", 20)
            one = "sum(vllm:request_success_total) == 1"
            assert eventually(partial(instant, peer.url, one), within_s=PATIENCE_S)
            generated = counted(peer.url, "vllm:").generated_tokens
            assert generated >= finished.generated_tokens + SEEN


def test_each_data_parallel_rank_is_a_batch(
    prometheus2: Program, prometheus3: Program, tmp_path: Path
) -> None:
    with (
        alone(tmp_path, data_parallel_size=2) as server,
        both((prometheus2, prometheus3), server.metrics, tmp_path) as peers,
    ):
        check_batch(peers, server, engines=2)

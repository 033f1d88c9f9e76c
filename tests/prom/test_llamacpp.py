"""The rules over a real llama.cpp server, whose names the sample in expositions/ must share."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.peers import prometheus_config, start_prometheus
from stack.processes import LOOPBACK, free_port
from stack.query import answers, eventually, fetch, instant
from tests.patience import PATIENCE_S
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.programs import Program

ANSWERS: Final = 3
TOKENS: Final = 20
LABELS: Final = {"cluster": "c1", "namespace": "prod", "pod": "llama-5d4f9c8b7-xk2lp"}
BY: Final = "cluster, workload_namespace, workload, model"


@contextmanager
def llamacpp(folder: Path) -> Iterator[str]:
    """Serve a tiny model; yields host:port."""
    port = free_port()
    script = Path(__file__).with_name("llamacpp.py")
    command: list[str | Path] = [sys.executable, script, folder, str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        try:
            address = f"{LOOPBACK}:{port}"
            ready = partial(answers, f"http://{address}/health")
            assert eventually(ready, within_s=PATIENCE_S), (folder / "log").read_text()
            yield address
        finally:
            process.communicate(timeout=PATIENCE_S)


def complete(address: str, prompt: str) -> int:
    """Have an answer generated; returns how many tokens it has."""
    asked = {"prompt": prompt, "n_predict": TOKENS, "ignore_eos": True}
    request = urllib.request.Request(
        f"http://{address}/completion",
        data=json.dumps(asked).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
        return int(json.load(answer)["tokens_predicted"])


def counted(address: str, name: str) -> float:
    """A counter of the server now."""
    text = fetch(f"http://{address}/metrics").decode()
    found = re.search(rf"^llamacpp:{name} (\S+)$", text, re.MULTILINE)
    assert found, text
    return float(found[1])


def hurried(folder: Path) -> Path:
    """The rules of the servers, each second."""
    text = (ALERTS / "servers.yaml").read_text(encoding="utf-8")
    file = folder / "servers.yaml"
    file.write_text(re.sub(r"(?m)^( +interval:) \w+$", r"\1 1s", text))
    return file


def test_a_real_server_is_read_as_our_sample_of_it_is(prometheus: Program, tmp_path: Path) -> None:
    """Prompts that it knows already are cached, and cached tokens are not computed ones."""
    with llamacpp(tmp_path) as address:
        job = {"job_name": "llama", "static_configs": [{"targets": [address], "labels": LABELS}]}
        config = prometheus_config({}, interval_s=1, rules=[hurried(tmp_path)])
        config["scrape_configs"] = [job]
        with start_prometheus(prometheus, tmp_path, config) as peer:
            scraped = partial(instant, peer.url, 'count_over_time(up{job="llama"}[1m]) >= 2')
            assert eventually(scraped, within_s=PATIENCE_S)
            generated = sum(complete(address, "the same prompt") for _ in range(ANSWERS))
            computed = counted(address, "prompt_tokens_total")
            assert generated == ANSWERS * TOKENS == counted(address, "tokens_predicted_total")
            rate = f'sum by ({BY}) (workload:joulefloor_tokens:rate5m{{direction="%s"}})'
            ratio = f"{rate % 'output'} / {rate % 'input'}"
            settled = f"({ratio} > {generated / computed * 0.999} < {generated / computed * 1.001})"
            (found,) = eventually(partial(instant, peer.url, settled), within_s=PATIENCE_S)
            assert found["metric"] == {
                "cluster": "c1",
                "workload_namespace": "prod",
                "workload": "llama",
                "model": "llama",
            }
            (engines,) = instant(peer.url, "workload:joulefloor_engines:sum")
            assert engines["value"][1] == "1"
            states = instant(peer.url, "workload:joulefloor_requests:sum == 0")
            assert {one["metric"]["state"] for one in states} == {"running", "waiting"}

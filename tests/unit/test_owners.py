"""Owners of pods, derived from names as the controllers of Kubernetes make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor.assembly import node_name
from joulefloor.owners import owner_of

if TYPE_CHECKING:
    from tests.machine import Machine

LETTERS = "bcdfghjklmnpqrstvwxz2456789"
"""What Kubernetes draws random names from, and writes the digits of hashes in."""
OWNERS = st.from_regex(r"[a-z][a-z0-9]{0,8}(-[a-z]{2,6}[aeiouy]){0,3}", fullmatch=True)
RANDOM = st.text(LETTERS, min_size=5, max_size=5)
NUMBERS = st.integers(0, 5_000)

MADE = {
    "Deployment": ("frontend-6d4cf56db6-x2x7k", "frontend"),
    "Deployment whose name ends in a number": ("llama-3-7d9f8b6c5-qwz7h", "llama-3"),
    "StatefulSet": ("resnet-0", "resnet"),
    "StatefulSet of many": ("vllm-worker-117", "vllm-worker"),
    "StatefulSet whose name ends in a number": ("llama-3-0", "llama-3"),
    "LeaderWorkerSet, leader": ("deepseek-1", "deepseek"),
    "LeaderWorkerSet, worker": ("deepseek-1-15", "deepseek"),
    "DaemonSet": ("dcgm-exporter-x2x7k", "dcgm-exporter"),
    "Job": ("finetune-9ssjm", "finetune"),
    "indexed Job": ("finetune-3-9ssjm", "finetune"),
    "CronJob": ("batch-28937160-9ssjm", "batch"),
    "CronJob of an indexed Job": ("batch-28937160-12-9ssjm", "batch"),
    "Job of a JobSet": ("train-workers-0-3-9ssjm", "train-workers-0"),
    "static pod": ("kube-apiserver-node1", "kube-apiserver"),
    "made by hand": ("sleeper", "sleeper"),
    "made by hand, in two words": ("my-redis", "my-redis"),
}


@pytest.mark.parametrize(("pod", "owner"), MADE.values(), ids=MADE)
def test_the_owner_of_a_pod_is_in_its_name(pod: str, owner: str) -> None:
    assert owner_of(pod, "node1") == owner


@given(owner=OWNERS, template=st.integers(100_000, 2**32 - 1), random=RANDOM)
def test_every_pod_of_a_deployment_has_its_owner(owner: str, template: int, random: str) -> None:
    """The hash of the template is a number of 32 bits, each digit written as another letter."""
    letters = "".join(LETTERS[ord(digit) % len(LETTERS)] for digit in str(template))
    assert owner_of(f"{owner}-{letters}-{random}") == owner


@given(owner=OWNERS, number=NUMBERS, random=RANDOM)
def test_every_pod_of_the_other_controllers_has_its_owner(
    owner: str, number: int, random: str
) -> None:
    assert owner_of(f"{owner}-{number}") == owner
    assert owner_of(f"{owner}-{random}") == owner
    assert owner_of(f"{owner}-{number}-{random}") == owner


@pytest.mark.parametrize("node", ["gpu-node-7", "ip-10-0-1-5.ec2.internal", "md-0-x2x7k"])
def test_a_static_pod_is_named_after_its_node(node: str) -> None:
    assert owner_of(f"kube-proxy-{node}", node) == "kube-proxy"
    assert owner_of(node, node) != ""


@given(pod=st.text(min_size=1), node=st.text())
def test_any_name_has_an_owner_that_begins_it(pod: str, node: str) -> None:
    owner = owner_of(pod, node)
    assert owner
    assert pod.startswith(owner)


def test_the_name_of_the_node_is_told_by_the_cluster_else_by_the_host(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_NAME", raising=False)
    assert node_name(machine.host) == ""
    machine.write("proc/sys/kernel/hostname", "gpu-7")
    assert node_name(machine.host) == "gpu-7"
    monkeypatch.setenv("NODE_NAME", "gpu-7.example.com")
    assert node_name(machine.host) == "gpu-7.example.com"

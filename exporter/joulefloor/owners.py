"""Who owns a pod, read from the pod's name: no rights on the API server are needed. Pure.

Controllers name their pods by rules that have not changed since Kubernetes 1.9. What a name says
can be said by accident too: a DaemonSet called `web-55bc9d` loses its last word, a pod that
somebody named `train-gpt2b` is taken for one of `train`, and `llama-3-1`, the second pod of a
StatefulSet called `llama-3`, for a worker in a LeaderWorkerSet called `llama`.
"""

from __future__ import annotations

import re
from typing import Final

_RANDOM = "[b-df-hj-np-tv-xz24-9]{5}"
"""What the API server appends: no vowels, and no digits that look like letters."""
_HASH = "[4-9bcdf]{6,10}"
"""Of a pod template: a decimal number of 32 bits, its digits written in the same letters."""
_NUMBER = "(?:0|[1-9][0-9]*)"
_MINUTES = "[0-9]{8}"
"""When a CronJob's run was due, since 1970; eight digits from 1989 to 2160."""
_WORKER = "[1-9][0-9]*"
"""In a group of a LeaderWorkerSet; the leader has the number of its group alone."""

OWNER: Final = (
    f"(.+?)(?:(?:-{_HASH}|-{_MINUTES}(?:-{_NUMBER})?|-{_NUMBER})?-{_RANDOM}"
    f"|-{_NUMBER}(?:-{_WORKER})?)?"
)
"""Whole name of a pod, its owner as the only group. The rules for Prometheus have the same pattern.

First the names that end in random letters: of a Deployment, a CronJob, an indexed Job, and without
any of these of a Job, DaemonSet or ReplicaSet. Then a StatefulSet's, and a LeaderWorkerSet's.
"""
_OWNER = re.compile(OWNER)


def owner_of(pod: str, node: str = "") -> str:
    """Name of the controller that made a pod of this name; the pod's own when it fits no rule.

    Static pods end in the name of their node, if that is known.
    """
    if node and pod.endswith(f"-{node}") and len(pod) > len(node) + 1:
        return pod[: -len(node) - 1]
    found = _OWNER.fullmatch(pod)
    return pod if found is None else found[1]

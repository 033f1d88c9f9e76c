"""Who may import whom: the layers of exporter/README.md, held by reading the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import joulefloor

PACKAGE = Path(joulefloor.__file__).parent
LAYERS: dict[str, int] = {
    **dict.fromkeys(("units", "physics", "errors", "clock", "bounds"), 0),
    **dict.fromkeys(("catalogue", "model"), 1),
    **dict.fromkeys(("host", "hostfile"), 2),
    **dict.fromkeys(("frames", "remote", "worker"), 3),
    **dict.fromkeys(("sources", "chips", "curves", "demo", "filesource", "processors"), 3),
    **dict.fromkeys(("census", "cgroups", "deviceids", "limits", "podresources"), 3),
    **dict.fromkeys(
        (
            "account",
            "attribution",
            "baseline",
            "billing",
            "board",
            "counters",
            "floor",
            "ledger",
            "levels",
            "meters",
            "owners",
            "tally",
        ),
        4,
    ),
    **dict.fromkeys(("readers", "sampler"), 5),
    "exposition": 6,
}
TOP = 7
PURE = (
    "account",
    "attribution",
    "baseline",
    "billing",
    "board",
    "counters",
    "floor",
    "ledger",
    "levels",
    "meters",
    "owners",
    "tally",
)
CONFINED = {
    "yaml": {"config"},
    "click": {"cli"},
    "psutil": {"sources.cpu"},
    "pynvml": {"nvml.binding"},
    "grpc": {"kubelet"},
    "torch": {"inference"},
    "prometheus_client": {"exposition", "inference"},
    "time": {"clock"},
    "os": None,
}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imports(path: Path) -> set[str]:
    """Every module named in an import statement, those for type checking left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {_module(node.module, alias.name) for alias in node.names}
    return found


def _module(module: str, name: str) -> str:
    """`from a import b` names module a.b if there is one, else a."""
    path = PACKAGE.parent / Path(*module.split("."), name)
    return f"{module}.{name}" if path.with_suffix(".py").exists() or path.is_dir() else module


def layer(module: str) -> int:
    return LAYERS.get(module.split(".", maxsplit=1)[0], TOP)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_point_down_the_layers(path: Path) -> None:
    module = module_of(path)
    for name in imports(path):
        if not name.startswith("joulefloor."):
            continue
        target = name.removeprefix("joulefloor.")
        allowed = layer(target) <= layer(module)
        assert allowed, f"{module} (layer {layer(module)}) imports {target} (layer {layer(target)})"
        assert not (layer(module) == 3 and layer(target) == 4), f"{module} imports {target}"
        inside = module.startswith("sources.") and target.startswith("sources.")
        assert not inside, f"{module} imports its sibling {target}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_third_parties_and_clocks_stay_where_they_belong(path: Path) -> None:
    module = module_of(path)
    for name in imports(path):
        homes = CONFINED.get(name.split(".")[0])
        if homes is not None:
            at_home = any(module == home or module.startswith(f"{home}.") for home in homes)
            assert at_home, f"{module} imports {name}, which belongs to {sorted(homes)}"


@pytest.mark.parametrize("module", PURE)
def test_the_ledger_and_its_parts_are_pure(module: str) -> None:
    impure = {"os", "time", "threading", "logging", "socket", "pathlib", "queue", "subprocess"}
    used = {name.split(".")[0] for name in imports(PACKAGE / f"{module}.py")}
    assert not used & impure
    assert "joulefloor.log" not in imports(PACKAGE / f"{module}.py")


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_catalogue_writes_metric_names(path: Path) -> None:
    """Names inside docstrings are allowed: they are checked against the catalogue elsewhere."""
    if module_of(path) == "catalogue":
        return
    tree = ast.parse(path.read_text())
    documents = {
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named = re.search(r"\bjoulefloor_[a-z_]+_(total|watts|celsius|ratio)\b", node.value)
            assert not named or node.value in documents, f"{path}:{node.lineno}: {named}"


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_modules_have_the_agreed_size_and_names(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "types"}
    # The catalogue is a table: one row per metric, and all of them in one place.
    assert len(path.read_text().splitlines()) <= (600 if path.stem == "catalogue" else 400)


def test_there_is_one_broad_except_in_the_package() -> None:
    """The runner's, which turns whatever a source raises into BUG."""
    broad = [
        f"{module_of(path)}:{node.lineno}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or "Exception" in ast.unparse(node.type).split())
    ]
    assert len(broad) == 1, broad
    assert broad[0].startswith("readers:")


def test_the_daemon_does_not_import_what_it_does_not_use() -> None:
    """Memory is the price of imports; see PERFORMANCE."""
    code = (
        "import sys; from joulefloor import cli, daemon, config, plugins;"
        "from joulefloor.plugins import installed;"
        "config.load(None, installed());"
        "print(' '.join(sorted(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {
        "asyncio", "ssl", "http.server", "http.client", "grpc", "torch", "numpy", "pydantic",
        "requests", "prometheus_client", "psutil", "logging", "email", "importlib.metadata",
        "json", "pynvml", "bcrypt", "concurrent.futures", "multiprocessing",
    }  # fmt: skip
    assert not heavy & set(out.stdout.split())

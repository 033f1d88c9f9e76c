"""Writes every dashboard's JSON beside its Python file: `python -m dashboards [FOLDER]`."""

from __future__ import annotations

import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dashboards
from dashboards.screen import Screen, model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def screens() -> Iterator[tuple[str, Screen]]:
    """Every module of this package that has a SCREEN, by file name, which is the stable uid."""
    for module in pkgutil.iter_modules(dashboards.__path__):
        if not module.name.startswith("_"):
            screen = getattr(importlib.import_module(f"dashboards.{module.name}"), "SCREEN", None)
            if isinstance(screen, Screen):
                yield f"joulefloor-{module.name}", screen


def texts() -> dict[str, str]:
    """The content of every dashboard file by its name."""
    return {
        f"{name}.json": json.dumps(
            model(screen, name), indent=2, sort_keys=True, ensure_ascii=False
        )
        + "\n"
        for name, screen in screens()
    }


def main(arguments: Sequence[str]) -> int:
    """Write all files; return the exit code."""
    folder = Path(arguments[0]) if arguments else Path(__file__).parent
    for name, text in texts().items():
        (folder / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

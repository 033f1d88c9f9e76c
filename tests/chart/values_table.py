"""Writes the table of values into the chart's README: `python -m tests.chart.values_table`.

A comment that begins with `# --` describes the key below it; its default is the value itself.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import yaml

from tests.chart.helm import CHART

if TYPE_CHECKING:
    from collections.abc import Iterator

README: Final = CHART / "README.md"
BEGIN: Final = "<!-- values: generated from values.yaml -->\n"
END: Final = "<!-- end of values -->"
_MARK: Final = "# -- "


def rows(text: str) -> Iterator[tuple[str, str, str]]:
    """Path, default and description of every described key of a values.yaml."""
    values = yaml.safe_load(text)
    description = ""
    path: list[str] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith(_MARK):
            description = stripped.removeprefix(_MARK)
        elif stripped and not stripped.startswith(("#", "-")):
            depth = (len(line) - len(line.lstrip())) // 2
            path = [*path[:depth], stripped.partition(":")[0]]
            if description:
                yield ".".join(path), _default(values, path), description
            description = ""


def _default(values: Any, path: list[str]) -> str:  # noqa: ANN401  # YAML
    for key in path:
        values = values[key]
    return json.dumps(values, ensure_ascii=False)


def document(readme: str) -> str:
    """The README with the table of today's values.yaml."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    lines = [f"| `{path}` | `{default}` | {meaning} |\n" for path, default, meaning in rows(text)]
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    head = "| value | default | meaning |\n|---|---|---|\n"
    return f"{before}{BEGIN}\n{head}{''.join(lines)}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(document(README.read_text(encoding="utf-8")), encoding="utf-8")

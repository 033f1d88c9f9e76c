"""Reads YAML in a short-lived child, so that the parser's memory does not stay with the daemon."""

from __future__ import annotations

import marshal
import os
from typing import TYPE_CHECKING, Any, cast

from joulefloor.config import load_yaml
from joulefloor.errors import ConfigError, Problem

if TYPE_CHECKING:
    from pathlib import Path
    from typing import NoReturn

    from joulefloor.decode import Node

    Row = tuple[str, str, Any, int]


class PlainNode:
    """What is used of a YAML node, without the parser."""

    __slots__ = ("id", "line", "tag", "value")

    def __init__(self, kind: str, tag: str, value: Any, line: int) -> None:  # noqa: ANN401  # text, nodes or pairs of nodes
        """`line` counts from 0."""
        self.id = kind
        self.tag = tag
        self.value = value
        self.line = line

    @property
    def start_mark(self) -> PlainNode:
        """Where it begins: the node itself has the line."""
        return self


def load_yaml_apart(path: Path) -> Node:
    """As `config.load_yaml`, but the parser is imported in a child; call it before any thread.

    Raises:
        ConfigError: as `config.load_yaml`.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        _answer(path, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:  # the child died of something strange: here it gets its message
        return load_yaml(path)
    problems, rows = cast(
        "tuple[list[tuple[str, str]], list[Row]]",
        marshal.loads(data),  # noqa: S302  # from our own child
    )
    if problems:
        raise ConfigError(tuple(Problem(where, what) for where, what in problems))
    return _linked(rows)


def _answer(path: Path, writer: int) -> NoReturn:
    """Send what is in the file, or its problems, and end."""
    try:
        try:
            answer: tuple[list[object], list[Row]] = ([], _rows(load_yaml(path)))
        except ConfigError as error:
            answer = ([tuple(problem) for problem in error.problems], [])
        with os.fdopen(writer, "wb") as pipe:
            marshal.dump(answer, pipe)
    finally:
        os._exit(0)


def _rows(root: Node) -> list[Row]:
    """Every node once, the root first; nodes inside are given by their place in the list."""
    nodes = [root]
    places = {id(root): 0}

    def place(node: Node) -> int:
        if id(node) not in places:
            places[id(node)] = len(nodes)
            nodes.append(node)
        return places[id(node)]

    rows: list[Row] = []
    for node in nodes:  # it grows on the way
        value: object = node.value
        if node.id == "mapping":
            value = [(place(key), place(inner)) for key, inner in node.value]
        elif node.id == "sequence":
            value = [place(inner) for inner in node.value]
        rows.append((node.id, node.tag, value, node.start_mark.line))
    return rows


def _linked(rows: list[Row]) -> Node:
    nodes = [PlainNode(*row) for row in rows]
    for node in nodes:
        if node.id == "mapping":
            node.value = [(nodes[key], nodes[inner]) for key, inner in node.value]
        elif node.id == "sequence":
            node.value = [nodes[inner] for inner in node.value]
    return cast("Node", nodes[0])

"""State belongs to objects: no module keeps any, and a library is changed in documented places alone."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import src

SOURCES = Path(src.__file__).parent
MUTATING = {
    "add",
    "append",
    "appendleft",
    "clear",
    "discard",
    "extend",
    "insert",
    "pop",
    "remove",
    "setdefault",
    "update",
}
LIBRARIES = {
    # What aiohttp answers to a malformed request: no application sees that request.
    "api/edge.py: web.RequestHandler.handle_error",
    # The class that prometheus-client's values have: in one context manager, which restores it.
    "core/metrics/storage.py: values.ValueClass",
}
"""Attributes of libraries that Sealpost sets for the whole process."""


def changes(module: ast.Module) -> Iterator[str]:
    """Yield what a module changes that lives as long as the process: names of its own, and attributes of others."""
    assigned = {
        name.id
        for statement in module.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for name in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if isinstance(name, ast.Name)
    }
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for statement in module.body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for alias in statement.names
    }
    for node in ast.walk(module):
        if isinstance(node, ast.Global):
            yield from node.names
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            root: ast.expr = node
            while isinstance(root, ast.Attribute | ast.Subscript):
                root = root.value
            if isinstance(root, ast.Name) and root.id in (assigned | imported):
                yield ast.unparse(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATING:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in assigned:
                yield ast.unparse(node.func)


def test_no_module_keeps_state() -> None:
    """What changes while Sealpost runs belongs to an object, save for two attributes of libraries."""
    found = {
        f"{path.relative_to(SOURCES)}: {change}"
        for path in SOURCES.rglob("*.py")
        for change in changes(ast.parse(path.read_text()))
        if not change.startswith("os.environ[")
    }

    assert LIBRARIES == found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("seen = {}\ndef note(key):\n    seen[key] = 1\n", ["seen[key]"]),
        ("seen = []\ndef note(key):\n    seen.append(key)\n", ["seen.append"]),
        ("count = 0\ndef note():\n    global count\n    count += 1\n", ["count"]),
        ("from aiohttp import web\nweb.Request.read = None\n", ["web.Request.read"]),
        ("NAMES = {}\ndef find(name):\n    found = {}\n    found[name] = NAMES[name]\n    return found\n", []),
    ],
)
def test_state_of_a_module_is_found(source: str, expected: list[str]) -> None:
    """The test above sees each way of keeping some."""
    assert expected == list(changes(ast.parse(source)))

"""Where a function of a library is written, and a fingerprint that changes when what it does may have changed.

The source is read, not imported. Comments, layout, docstrings and annotations do not matter; decorators and defaults
do.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

_UNIMPORTANT = {"annotation", "returns", "type_comment", "type_params", "ctx", "kind"}
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


class Gone(LookupError):
    """The library has no such function any more."""


@dataclass(frozen=True, slots=True)
class Print:
    """How a function is called, and a digest of what it does."""

    signature: str
    source: str


_packages = cache(packages_distributions)


def distribution(target: str) -> str:
    """The installed package that a target such as `allauth.account.utils:perform_login` is from."""
    return _packages()[target.partition(".")[0].partition(":")[0]][0].lower()


def installed(targets: Iterable[str]) -> dict[str, str]:
    """Package -> installed version, for all these targets."""
    return {name: version(name) for name in sorted({distribution(target) for target in targets})}


@cache
def take(target: str) -> Print:
    """The fingerprint of `module:qualified.name` as it is installed. Raises Gone."""
    found = _definitions(target)
    digest = hashlib.sha256("\n".join(_text(node) for node in found).encode()).hexdigest()
    return Print("; ".join(_signature(node) for node in found), digest[:24])


def _definitions(target: str) -> list[Definition]:
    module, _, qualified = target.partition(":")
    bodies: list[ast.AST] = [_module(module)]
    found: list[Definition] = []
    for name in qualified.split("."):
        found = [node for body in bodies for node in _named(body, name)]
        bodies = list(found)
    if not found:
        raise Gone(target)
    return found


@cache
def _module(name: str) -> ast.Module:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise Gone(name)
    return ast.parse(Path(spec.origin).read_text(encoding="utf-8"))


def _named(body: ast.AST, name: str) -> Iterator[Definition]:
    """Every definition of a name in a module or class: also under `if` and `try`, also a property's setter."""
    for node in ast.iter_child_nodes(body):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node.name == name:
                    yield node
            case ast.Assign(targets=targets):
                if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                    yield node
            case ast.AnnAssign(target=ast.Name(id=found), value=value):
                if found == name and value is not None:
                    yield node
            case ast.If() | ast.Try() | ast.With() | ast.ExceptHandler():
                yield from _named(node, name)


def _signature(node: Definition) -> str:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            bare = ast.parse(f"def f({ast.unparse(node.args)}): ...").body[0]
            assert isinstance(bare, ast.FunctionDef)
            for argument in ast.walk(bare.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            return f"({ast.unparse(bare.args)})"
        case ast.ClassDef():
            return f"class ({', '.join(ast.unparse(base) for base in node.bases)})"
        case ast.Assign() | ast.AnnAssign():
            return "a value"


def _text(node: object) -> str:
    """A dump that is the same under every version of Python that Daypass runs on."""
    if isinstance(node, list):
        return "[" + ",".join(_text(item) for item in node if not _is_talk(item)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.AnnAssign):  # the same as without the annotation
        value = _text(node.value) if node.value is not None else ""
        return f"Assign(targets=[{_text(node.target)}],value={value})"
    parts = []
    for field, value in ast.iter_fields(node):
        if field not in _UNIMPORTANT and value is not None and value != []:
            parts.append(f"{field}={_text(value)}")
    return f"{type(node).__name__}({','.join(parts)})"


def _is_talk(node: object) -> bool:
    """A docstring, an annotation without a value, `pass`: nothing that does anything."""
    if isinstance(node, ast.AnnAssign):
        return node.value is None
    return isinstance(node, ast.Pass) or (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )

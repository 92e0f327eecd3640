"""YAML without its surprises: `1e-4` is a number, `no` is a string, equal keys are an error, tags run nothing.

`load` gives plain dicts, lists, strings, numbers, booleans and None, and the line of each place in the file.
"""

import difflib
import math
import re
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from emoray.errors import UserError
from emoray.s3 import RemoteError
from emoray.storage import AnyPath

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Nodes after aliases are expanded: a sweep file has hundreds; an alias bomb has billions."""
MAX_DEPTH = 40
MAX_PLACE = 1000
"""Characters of the keys from the top to a value: they are kept for every value, so long ones would fill memory."""

_DIGITS = "[0-9]+(_[0-9]+)*"
_INTEGER = re.compile(f"[-+]?{_DIGITS}")
_NUMBER = re.compile(rf"[-+]?(\.{_DIGITS}|{_DIGITS}(\.({_DIGITS})?)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}


def read(path: AnyPath) -> tuple[Any, dict[str, int]]:
    """`load` of a file, of which no more than that takes is read. Raises UserError where it cannot be read."""
    if isinstance(path, Path) and path.is_fifo():  # to read one is to wait for whoever writes it
        raise UserError(f"{path} is a pipe, not a file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{path} has more than {MAX_BYTES:,} bytes, which is more than is read")
        return load(content.decode(), str(path))
    except RemoteError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(_unreadable(path, error)) from None


def load(text: str, origin: str) -> tuple[Any, dict[str, int]]:
    """Read one YAML document; `origin` names it in errors.

    Returns the tree and the line (from 1) of each place, written as in `train.augment[0].degrees`.
    Raises UserError for anything that is not plain data.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{origin} has {len(text):,} characters; at most {MAX_BYTES:,} are read")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except ReaderError as error:
        where = f"{origin}, line {text.count(chr(10), 0, error.position) + 1}"
        raise UserError(
            f"{where} is not valid YAML: the character {chr(error.character)!r} may not stand in it"
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise UserError(f"{origin}{where} is not valid YAML: {_told(error)}") from None
    except RecursionError:
        raise UserError(f"{origin} is nested too deeply") from None
    reader = _Reader(origin)
    try:
        tree = reader.convert(node, "") if node is not None else None
    except RecursionError:
        raise UserError(f"{origin} is nested too deeply or contains itself") from None
    return tree, reader.lines


class _Reader:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.lines: dict[str, int] = {}
        self.nodes = 0

    def convert(self, node: yaml.Node, place: str, depth: int = 0) -> Any:
        self.nodes += 1
        if depth > MAX_DEPTH or len(place) > MAX_PLACE:
            what = f"{MAX_DEPTH} levels" if depth > MAX_DEPTH else f"keys of {MAX_PLACE:,} characters in all"
            raise self._error(node, f"this is nested too deeply, below more than {what}")
        if self.nodes > MAX_NODES:
            raise UserError(f"{self.origin} holds more than {MAX_NODES:,} values once its aliases are expanded")
        self.lines.setdefault(place, node.start_mark.line + 1)
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            raise self._error(node, f"the tag '{node.tag}' is not allowed: the file may hold plain data only")
        match node:
            case yaml.MappingNode():
                return self._mapping(node, place, depth)
            case yaml.SequenceNode():
                return [self.convert(child, f"{place}[{i}]", depth + 1) for i, child in enumerate(node.value)]
            case yaml.ScalarNode():
                return self._scalar(node)
        raise self._error(node, "this is not plain data")

    def _mapping(self, node: yaml.MappingNode, place: str, depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key == "<<":
                raise self._error(key_node, "a key must be a plain word (merge keys are not supported)")
            if key in tree:
                raise self._error(key_node, f"the key '{key[:80]}' stands here twice")
            at = f"{place}.{key}" if place else key
            tree[key] = self.convert(value_node, at, depth + 1)
            self.lines[at] = key_node.start_mark.line + 1
        return tree

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if node.style is not None:  # quoted or block: a string whatever it looks like
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text) and len(text) <= 18:
            return int(text)
        if _NUMBER.fullmatch(text):
            value = float(text)
            if not math.isfinite(value):
                raise self._error(node, f"the number {text[:40]} is too large")
            return value
        return text

    def _error(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{self.origin}, line {node.start_mark.line + 1}: {message}")


def _told(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or str(error)
    if problem.startswith("but "):
        problem = f"{getattr(error, 'context', None) or ''} {problem}".strip()
    return f"{problem}; indent with spaces" if "'\\t'" in problem else problem


def _unreadable(path: AnyPath, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        beside = sorted(p.name for p in path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, beside, n=3)
        hint = f": did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
        return f"there is no file {path}{hint}"
    if isinstance(error, UnicodeDecodeError):
        return f"{path} is not UTF-8 text"
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"

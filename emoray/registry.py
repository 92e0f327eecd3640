"""Components by name: which there are, what they may be set to, and how one is built.

A family is a module or a package of modules; its members are the public functions in it. Signatures are read from the
source with `ast`, so listing and checking never import Keras nor run a user's module; only `function` and `build` do.
A sweep file's own components are written `module.function` once the file has been checked.
"""

import ast
import builtins
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ConfigDict, PydanticUserError, TypeAdapter

from emoray import settings as setting_types
from emoray.errors import UserError

REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()
"""Stands for the default of a setting that has none."""


@dataclass(frozen=True)
class Family:
    """A kind of component: the module that holds it and the positional arguments that its members may take."""

    module: str
    positional: tuple[tuple[str, ...], ...]


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "models": Family("emoray.models", (("image_shape", "classes"),)),
        "losses": Family("emoray.losses", (("labels", "logits"), ("labels", "logits", "classes"))),
        "optimizers": Family("emoray.optimizers", (("variables",),)),
        "schedules": Family("emoray.schedules", (("epoch", "epochs"), ("epoch", "epochs", "scores"))),
        "augment": Family(
            "emoray.augment", (("draws", "image_shape"), ("images", "draws"), ("images", "labels", "draws"))
        ),
        "class_weights": Family("emoray.class_weights", (("counts",),)),
        "stopping": Family("emoray.stopping", (("scores",),)),
        "algorithms": Family("emoray.algorithms", (("study",),)),
        "schedulers": Family("emoray.schedulers", (("curves", "trial"),)),
        "tracking": Family("emoray.tracking", (("run",),)),
        "ensemble": Family(
            "emoray.ensemble",
            (("probabilities", "labels", "metric"), ("probabilities", "labels", "metric", "groups")),
        ),
    }
)


@dataclass(frozen=True)
class Setting:
    """One keyword-only argument: its type as pydantic reads it, how that is written, and its default."""

    name: str
    type: Any
    written: str
    default: Any


@dataclass(frozen=True)
class Component:
    """A public function of a family, as its source describes it."""

    family: str
    name: str
    module: str
    described: str
    positional: tuple[str, ...]
    settings: Mapping[str, Setting]

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return self.described.partition("\n")[0]


def members(family: str, modules: Sequence[str] = (), folder: Path | None = None) -> dict[str, Component]:
    """The family's components by name, with those of a user's `modules` (looked for in `folder`, then on the path).

    Raises UserError for a module that is missing or cannot be read, and for a name that is already taken.
    """
    found = dict(_own(family))
    for module in modules:
        for component in _read(family, module, locate(module, folder)):
            if component.name in found:
                raise UserError(
                    f"components: {module}.{component.name} has the name of {found[component.name].module}."
                    f"{component.name}; give it another name"
                )
            found[component.name] = component
    return found


def function(family: str, name: str) -> Callable[..., Any]:
    """The function behind a checked name: `focal`, or `my_losses.hinge` for a user's own."""
    module, _, bare = name.rpartition(".")
    if not module:
        return getattr(importlib.import_module(_own(family)[name].module), bare)
    try:
        return getattr(importlib.import_module(module), bare)
    except Exception as error:  # what a user's module may raise
        told = f"components: {module} cannot be imported: {type(error).__name__}: {error}"
        raise UserError(told) from error


def bind(family: str, settings: Mapping[str, Any]) -> Callable[..., Any]:
    """The component that `settings` names with its settings bound, still to be handed its positional arguments.

    It may be handed all of the family's; it takes as many as it declares.
    """
    called = function(family, settings["name"])
    wanted = takes(called)
    keywords = {key: value for key, value in settings.items() if key != "name"}
    return lambda *handed: called(*handed[:wanted], **keywords)


def takes(called: Callable[..., Any]) -> int:
    """How many positional arguments a function takes, as many as there are where it takes any number."""
    kinds = [p.kind.name for p in inspect.signature(called).parameters.values()]
    return sys.maxsize if "VAR_POSITIONAL" in kinds else sum(kind.startswith("POSITIONAL") for kind in kinds)


def build(family: str, settings: Mapping[str, Any], *handed: Any) -> Any:
    """Call the component that `settings` names with what the platform hands over and its settings."""
    return bind(family, settings)(*handed)


@contextmanager
def importable(folders: Sequence[Path]) -> Iterator[None]:
    """A user's own components can be imported from `folders`, behind everything else on Python's path."""
    added = [str(folder.absolute()) for folder in folders]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)


def suggestion(name: str, allowed: Sequence[str]) -> str:
    """`, did you mean 'x'?` for a name close to an allowed one, else what is allowed."""
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    listed = ", ".join(sorted(allowed))
    return f"did you mean '{close[0]}'? (allowed: {listed})" if close else f"allowed: {listed}"


@lru_cache
def _own(family: str) -> Mapping[str, Component]:
    listed = [component for name, file in _files(family).items() for component in _read(family, name, file)]
    return {component.name: component for component in listed}


def _files(family: str) -> dict[str, Path]:
    """The source files of a family by their modules."""
    module = FAMILIES[family].module
    path = Path(__file__).parent / module.removeprefix("emoray.").replace(".", "/")
    if path.is_dir():
        return {f"{module}.{file.stem}": file for file in sorted(path.glob("*.py")) if file.stem != "__init__"}
    return {module: path.with_suffix(".py")}


def rules(family: str) -> dict[str, str]:
    """What the modules of a family say of all their members, by module: their docstrings."""
    return {module: ast.get_docstring(_parse(file)) or "" for module, file in _files(family).items()}


def locate(module: str, folder: Path | None) -> Path:
    """The source file of a user's module, found without importing anything, parents included.

    Raises UserError where there is none.
    """
    paths = [str(folder), *sys.path] if folder else sys.path
    spec = None
    for part in module.split("."):
        spec = importlib.machinery.PathFinder.find_spec(part, paths)
        if spec is None:
            where = f"beside the sweep file ({folder}) or on Python's path" if folder else "on Python's path"
            raise UserError(f"components: there is no module '{module}' {where}")
        paths = list(spec.submodule_search_locations or [])
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UserError(f"components: module '{module}' is not a Python source file")
    return Path(spec.origin)


def missing_imports(module: str, folder: Path | None) -> list[str]:
    """What a user's module imports at its top and Python does not find now. Nothing is imported for that."""
    imported: dict[str, None] = {}
    for node in _parse(locate(module, folder)).body:
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0]: None for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported[node.module.partition(".")[0]] = None
    return [name for name in imported if name not in sys.modules and importlib.util.find_spec(name) is None]


def _read(family: str, module: str, file: Path) -> list[Component]:
    try:
        tree = _parse(file)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UserError(f"components: {file} is not valid Python: {error}") from None
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return [_component(family, module, node) for node in functions if _handed(node) in FAMILIES[family].positional]


@lru_cache
def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def _handed(node: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(a.arg for a in [*node.args.posonlyargs, *node.args.args])


def _component(family: str, module: str, node: ast.FunctionDef) -> Component:
    settings = {}
    for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        place = f"{module}.{node.name}({argument.arg})"
        if argument.annotation is None:
            raise UserError(f"{place} has no annotation; a setting needs one")
        settings[argument.arg] = Setting(
            argument.arg,
            _type(argument.annotation, place),
            ast.unparse(argument.annotation),
            REQUIRED if default is None else _literal(default, place),
        )
    described = ast.get_docstring(node) or ""
    return Component(family, node.name, module, described, _handed(node), MappingProxyType(settings))


def _literal(node: ast.expr, place: str) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise UserError(f"{place} has the default `{ast.unparse(node)}`; a setting's default is a literal") from None


_NAMES = {name: getattr(builtins, name) for name in ("int", "float", "bool", "str", "list", "dict", "tuple")}
_NAMES |= {name: t for name, t in vars(setting_types).items() if typing.get_origin(t) is typing.Annotated}
_NAMES |= {"Literal": typing.Literal, "Any": typing.Any}


@lru_cache
def adapter(wanted: Any) -> TypeAdapter[Any]:
    """What checks a value by a setting's type, without converting it."""
    try:
        return TypeAdapter(wanted, config=ConfigDict(strict=True))
    except PydanticUserError:
        return TypeAdapter(wanted)


def _type(node: ast.expr, place: str) -> Any:
    try:
        found = _annotation(node)
        adapter(found)
        return found
    except (LookupError, SyntaxError, TypeError, ValueError, PydanticUserError):
        allowed = f"allowed: {', '.join(sorted(_NAMES))} and `| None`"
        raise UserError(f"{place} is annotated `{ast.unparse(node)}`; {allowed}") from None


def _annotation(node: ast.expr) -> Any:
    """The type that an annotation's source stands for, built from known names only: nothing is executed.

    Raises LookupError for any other name, and what Python raises where names do not go together.
    """
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str() as quoted):
            return _annotation(ast.parse(quoted, mode="eval").body)
        case ast.Name(id=name) if name in _NAMES:
            return _NAMES[name]
        case ast.Attribute(attr=name) if name in _NAMES:
            return _NAMES[name]
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return typing.Union[_annotation(left), _annotation(right)]  # noqa: UP007
        case ast.Subscript(value=ast.Name(id="Literal"), slice=chosen):
            return typing.Literal[ast.literal_eval(chosen)]
        case ast.Subscript(value=generic, slice=ast.Tuple(elts=inner)):
            return _annotation(generic)[tuple(_annotation(n) for n in inner)]
        case ast.Subscript(value=generic, slice=inner):
            return _annotation(generic)[_annotation(inner)]
    raise LookupError(ast.unparse(node))

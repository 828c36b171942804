"""The source that a module was made from: as it was at the import, and not as its file is now.

A function travels by its name, and a worker with another version of it must refuse. Two things make that hard. First, a
file may be edited after its import. So the source is hashed as early as possible: when a client is made, and after each
import by this package; a reload is noticed by the module's new spec. Second, a module uses other modules, which may
have been imported long before, for another job. So a job names the hashes of the modules of the same project that its
function's module imports, at its top or in a function, and a worker compares those of them that it has loaded.

This does not see: packages that are installed (the deployment must keep their versions equal), what a program sets in a
module after its import, modules that only items name, data files; and the constants of a module that was edited between
its import and the first client of its process (its functions and methods are compared with the file).
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import importlib.util
import marshal
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib.machinery import SourceFileLoader
from inspect import CO_ITERABLE_COROUTINE
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from mapreduce_rq import version
from mapreduce_rq.core.text import here
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.nameless import NAMELESS

MOST_AROUND = 256
"""Modules of a project that a job names at most; the nearest come first."""

PARSINGS = 100
"""Tries to parse a source beside threads that parse, too: of four that collect much garbage, one try in 23 fails."""

_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PYTHON = (".py", ".pyc")
_NOT_OF_A_PROJECT = tuple(f"{os.path.dirname(str(each.__file__))}{os.sep}" for each in (os, version))


class _Source(NamedTuple):
    """What is known of one module, as it was imported."""

    spec: object
    stamp: tuple[int, int, int] | None  # of its file, when it was hashed
    code: str  # the hash
    module: ModuleType


_known: dict[str, _Source] = {}
_learnt = 0
"""How many modules were imported at the last call of `learn`."""
_found_true: set[str] = set()  # hashes of modules whose functions are known to equal those of the file
_around: dict[str, tuple[object, int, dict[str, str]]] = {}
_imports: dict[bytes, tuple[str, ...]] = {}
"""What a source imports, by its hash and the package that it stands in."""


def learn() -> None:
    """Hash the modules of projects that are imported and not hashed yet. Call it before a person can edit them."""
    global _learnt  # noqa: PLW0603  one for the process, as sys.modules is
    if len(sys.modules) == _learnt:
        return
    _learnt = len(sys.modules)
    for name, module in list(sys.modules.items()):
        if _is_of_a_project(module) and not _is_known(name, module):
            _known[name] = _hashed(name, module)


def code_of(module: str) -> str:
    """The hash of the source of an imported module; for one without source, of its version and Python's."""
    found = sys.modules[module]
    if not _is_known(module, found):
        _known[module] = _hashed(module, found)
    return _known[module].code


def codes_around(module: str) -> dict[str, str]:
    """The hashes of the modules of its project that an imported module imports, directly or through others."""
    spec = getattr(sys.modules[module], "__spec__", None)
    kept = _around.get(module)
    if kept is None or kept[0] is not spec or kept[1] != len(sys.modules):
        learn()
        found = {name: code_of(name) for name in _reached(module)}
        kept = _around[module] = (spec, len(sys.modules), found)
    return {name: code_of(name) for name in kept[2] if name in sys.modules}


def sources_of(name: str) -> tuple[str, dict[str, str]]:
    """What a worker compares for the function with this name, which is imported: the hash of its module's source, and
    those of the modules that it imports. Raises BadFunction.
    """
    module = name.partition(":")[0]
    around = codes_around(module)
    check_ours(name, [module, *around])
    return code_of(module), around


def are_the_same(codes: Mapping[str, str]) -> bool:
    """Whether ``sources_of`` a name would give these hashes again: no module was imported or reloaded since."""
    if len(sys.modules) != _learnt:
        return False
    for name, code in codes.items():
        module = sys.modules.get(name)
        if module is None or not _is_known(name, module) or _known[name].code != code:
            return False
    return True


def codes_of(modules: Iterable[str]) -> dict[str, str]:
    """The hashes of these modules, as far as they belong to a project, and of those that they import."""
    found: dict[str, str] = {}
    for module in sorted(modules):
        if module in sys.modules and module not in NAMELESS and _is_of_a_project(sys.modules[module]):
            found |= {module: code_of(module), **codes_around(module)}
    return found


def check_ours(name: str, modules: Iterable[str]) -> None:
    """Raises BadFunction if one of these modules, which ``name`` needs, was edited before its source was hashed."""
    for each in modules:
        code_of(each)
        known = _known[each]
        if known.code in _found_true or known.stamp is None or _stamp(known.module) != known.stamp:
            continue  # the file has changed since, so its source was hashed in time
        if not _is_true(known.module):
            raise BadFunction(
                f"{name}: {each} was edited after its import here: reload it (importlib.reload) or restart this program"
            )
        _found_true.add(known.code)


def check_theirs(name: str, codes: Mapping[str, str]) -> None:
    """Raises BadFunction if one of these modules is imported here from another source than the submitter's."""
    learn()
    for each, its in codes.items():
        if each not in sys.modules or (ours := code_of(each)) == its:
            continue
        known = _known[each]
        if known.stamp is not None and _hashed(each, known.module).code != ours:
            raise BadFunction(
                f"{name}: {each} was edited after this worker had imported it: restart the worker (send HUP to its "
                "supervisor; local workers restart with a new Client)"
            )
        what = f"the source of {each} {here()} differs from the submitter's"
        raise BadFunction(f"{name}: {what}: deploy the same version")


def _is_known(name: str, module: ModuleType) -> bool:
    known = _known.get(name)
    return known is not None and known.module is module and known.spec is getattr(module, "__spec__", None)


def _hashed(name: str, module: ModuleType) -> _Source:
    stamp = _stamp(module)
    source = _source(name, module)
    if source is None:
        stamp = None
        source = f"{name} {getattr(module, '__version__', '')} {sys.version}".encode()
    code = hashlib.blake2b(source, digest_size=16).hexdigest()
    return _Source(getattr(module, "__spec__", None), stamp, code, module)


def _source(name: str, module: ModuleType) -> bytes | None:
    """The source of a module; of one that has only its compiled code, that; None where neither can be had."""
    path = _path(module)
    try:
        if path.endswith(".py") and os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read()
        if path.endswith(_PYTHON):  # in an archive, or compiled
            loader: Any = getattr(module, "__spec__", None) and module.__spec__.loader  # type: ignore[union-attr]
            text = loader.get_source(name)
            return marshal.dumps(loader.get_code(name), 2) if text is None else text.encode()
    except Exception:  # it is gone, or its loader cannot say
        return None
    return None


def _path(module: object) -> str:
    # Not by getattr: some modules import others when an attribute is read.
    path = getattr(module, "__dict__", {}).get("__file__")
    return path if isinstance(path, str) else ""


def _stamp(module: ModuleType) -> tuple[int, int, int] | None:
    try:
        found = os.stat(_path(module))
    except (OSError, ValueError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _is_of_a_project(module: object) -> bool:
    """Whether a module is written in Python and is not Python's own, not of this package, and not installed."""
    path = _path(module)
    return (
        path.endswith(_PYTHON) and not path.startswith(_NOT_OF_A_PROJECT) and not any(at in path for at in _INSTALLED)
    )


def _reached(module: str) -> list[str]:
    """The modules of its project that it mentions, directly or through others, the nearest first.

    Of a module of this package there are none: a worker of another version of the package says so by itself.
    """
    if _path(sys.modules[module]).startswith(_NOT_OF_A_PROJECT):
        return []
    top = module.partition(".")[0]
    found = [module]
    for name in found:  # the list grows meanwhile
        module_there = sys.modules[name]
        for other in dict.fromkeys((*_mentioned(module_there), *_imported(name, module_there))):
            there = sys.modules.get(other)
            if there is None or other in found or other in NAMELESS or len(found) > MOST_AROUND:
                continue
            if _is_of_a_project(there) or (other.partition(".")[0] == top and _path(there).endswith(_PYTHON)):
                found.append(other)
    return found[1:]


def _mentioned(module: ModuleType) -> Iterator[str]:
    for value in list(vars(module).values()):
        if isinstance(value, ModuleType):
            yield value.__name__
        elif isinstance(value, (type, FunctionType)) and isinstance(value.__module__, str):
            yield value.__module__


def _imported(name: str, module: ModuleType) -> tuple[str, ...]:
    """What its source imports, at its top or in a function: ``from it import`` leaves no sign in the module's names."""
    source = _source(name, module)
    package = getattr(module, "__package__", None) or ""
    if source is None or not _path(module).endswith(".py"):
        return ()
    key = hashlib.blake2b(source, digest_size=16, key=package.encode()[:64]).digest()
    if key not in _imports:
        try:
            _imports[key] = tuple(_imports_of(_tree(source), package))
        except (SyntaxError, ValueError, RecursionError):  # it was edited since
            _imports[key] = ()
    return _imports[key]


def _tree(source: bytes) -> ast.AST:
    """Parse it. Python 3.11 counts the depth of two trees as one if threads make them at a time: SystemError.

    No lock of ours would keep the threads of others away, and the next try begins with a count of its own.
    """
    for _ in range(PARSINGS):
        with contextlib.suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)


def _imports_of(tree: ast.AST, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for each in node.names:
                yield each.name
        elif isinstance(node, ast.ImportFrom):
            try:
                origin = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            except ImportError:
                continue
            yield origin
            for each in node.names:
                yield f"{origin}.{each.name}"


def _is_true(module: ModuleType) -> bool:
    """Whether the functions of an imported module equal those of its file."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    if type(loader) is not SourceFileLoader:  # a loader that rewrites code, such as pytest's, makes other code
        return True
    path = _path(module)
    try:
        code = loader.source_to_code(loader.get_data(path), path)  # not from the cache beside the file: it may be older
    except Exception:  # the file is gone, or cannot be compiled
        return False
    there = set(_codes(code))
    live = [each for each in _live(vars(module), module.__name__, set()) if each.co_filename == path]
    return all(each in there or _undecorated(each) in there for each in live)


def _undecorated(code: CodeType) -> CodeType:
    """A code as it was before ``types.coroutine``, which sets a flag of it."""
    return code.replace(co_flags=code.co_flags & ~CO_ITERABLE_COROUTINE)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _live(names: Mapping[str, Any], module: str, seen: set[int]) -> Iterator[CodeType]:
    """The code of those functions and methods among the names that the module itself defines."""
    for value in list(names.values()):
        found = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(found, FunctionType) and found.__module__ == module:
            yield found.__code__
        elif isinstance(found, type) and found.__module__ == module and id(found) not in seen:
            seen.add(id(found))
            yield from _live(vars(found), module, seen)

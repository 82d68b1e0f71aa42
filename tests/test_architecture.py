"""The rooms of the package and its house rules, held by reading the source."""

import ast
import importlib
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import lightning_infoplane

PACKAGE = Path(lightning_infoplane.__file__).parent
NAME = lightning_infoplane.__name__
SOURCES = {path.stem: path for path in sorted(PACKAGE.glob("*.py"))}

# Which of our modules each may import. The order is that of the layout: nobody imports from a later line.
ROOMS: dict[str, set[str]] = {
    "precision": set(),
    "distances": {"precision"},
    "bandwidths": {"distances", "precision"},
    "kernels": {"bandwidths", "precision"},
    "entropy": {"precision"},
    "solvers": {"entropy", "precision"},
    "information": {"entropy"},
    "pairs": {"bandwidths", "entropy", "information", "kernels", "precision"},
    "spectra": {"bandwidths", "entropy", "pairs", "precision"},
    "schedules": set(),
    "capture": set(),
    "probe": {"capture"},
    "markov": {"capture", "probe"},
    "errors": {"capture", "precision", "probe"},
    "measurement": {"bandwidths", "entropy", "information", "kernels", "pairs", "precision", "spectra"},
    "plane": {"bandwidths", "entropy", "measurement", "pairs", "spectra"},
    "observe": {"capture", "errors", "markov", "measurement", "plane", "probe"},
    "metrics": {"bandwidths", "entropy", "information", "kernels"},
    "tables": {"plane"},
    "plots": {"plane", "tables"},
    "summary": {"plane", "plots", "tables"},
    "loggers": {"precision"},
    "ranks": {"spectra"},
    "arguments": {"schedules"},
    "loaders": {"capture", "probe"},
    "outputs": {"loggers", "markov", "measurement", "plane", "plots", "probe"},
}
ROOMS["runs"] = {"plane"}
ROOMS["report"] = {"plane", "plots", "runs", "summary", "tables"}
ROOMS["callback"] = set(ROOMS) - {"metrics", "report", "runs", "summary"}  # the one that puts everything together
EVERYTHING = {*ROOMS, "__init__", "__main__"}  # what the two doors of the house may open
MATHEMATICS = ["precision", "distances", "bandwidths", "kernels", "entropy", "solvers", "information", "pairs"]
# These need nothing but torch: a plain PyTorch loop can use them.
FRAMEWORK_FREE = [
    *MATHEMATICS,
    *("capture", "errors", "markov", "measurement", "observe", "plane", "probe", "schedules", "spectra"),
]

LONGEST_FUNCTION, LONGEST_MODULE = 45, 350


def tree_of(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all imports, those inside functions too; relative ones are not used here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            if node.module == NAME:  # from package import module-or-name
                yield from (f"{NAME}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def our_imports(tree: ast.AST) -> set[str]:
    return {name.split(".")[1] for name in imported_names(tree) if name.startswith(f"{NAME}.")}


def foreign_imports(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imported_names(tree)} - {NAME} - sys.stdlib_module_names


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert function.end_lineno is not None
    length = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        assert docstring.end_lineno is not None
        length -= docstring.end_lineno - docstring.lineno + 1
    return length


def module_named(name: str) -> ModuleType:
    return importlib.import_module(NAME if name == "__init__" else f"{NAME}.{name}")


def public_objects(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes of ``__all__`` that the module itself defines."""
    for name in getattr(module, "__all__", ()):
        member = getattr(module, name)
        if (inspect.isfunction(member) or inspect.isclass(member)) and member.__module__ == module.__name__:
            yield name, member


def is_method(member: object) -> bool:
    """A function written as such: a field whose default is a lambda is none."""
    return inspect.isfunction(member) and member.__name__ != "<lambda>"


def test_every_module_has_a_row_in_the_table_of_rooms() -> None:
    assert set(ROOMS) <= set(SOURCES) <= EVERYTHING


@pytest.mark.parametrize("module", [module for module in SOURCES if module in ROOMS])
def test_a_room_imports_only_what_the_table_allows(module: str) -> None:
    assert our_imports(tree_of(module)) <= ROOMS[module]


def test_the_table_points_one_way_so_that_there_are_no_cycles() -> None:
    earlier: set[str] = set()
    for module, allowed in ROOMS.items():
        assert allowed <= earlier, f"{module} may import only what stands above it"
        earlier.add(module)


@pytest.mark.parametrize("module", FRAMEWORK_FREE)
def test_framework_free_rooms_import_torch_and_the_standard_library_only(module: str) -> None:
    assert foreign_imports(tree_of(module)) <= {"torch"}


def test_the_import_check_sees_nested_imports() -> None:
    nested = ast.parse(
        f"def f():\n    import lightning\n    from {NAME}.callback import X\n    from {NAME} import plots"
    )
    assert foreign_imports(nested) == {"lightning"}
    assert our_imports(nested) == {"callback", "plots"}


def run_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return finished.stdout.strip()


@pytest.mark.parametrize("module", FRAMEWORK_FREE)
def test_framework_free_rooms_defer_nothing_to_a_type_checker_either(module: str) -> None:
    assert not any(is_type_checking(node) for node in ast.walk(tree_of(module)))


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_imports_matplotlib_when_it_is_imported(module: str) -> None:
    """Imports at a module's level are those outside functions and outside ``if TYPE_CHECKING``."""
    level = [node for node in tree_of(module).body if not is_type_checking(node)]
    at_import = [
        name
        for statement in level
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for name in imported_names(statement)
    ]
    assert not [name for name in at_import if name.split(".")[0] == "matplotlib"]


@pytest.mark.parametrize("module", SOURCES)
def test_every_name_in_all_exists_once_and_in_order(module: str) -> None:
    loaded = module_named(module)
    names = list(loaded.__all__)
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(loaded, name)] == []


def test_every_public_name_imports_with_a_star() -> None:
    namespace: dict[str, object] = {}
    exec(f"from {NAME} import *", namespace)
    assert set(lightning_infoplane.__all__) <= set(namespace)


@pytest.mark.parametrize("module", SOURCES)
def test_every_public_function_and_class_has_a_docstring(module: str) -> None:
    loaded = module_named(module)
    assert loaded.__doc__
    for name, member in public_objects(loaded):
        assert member.__doc__, name
        if inspect.isclass(member):
            methods = [key for key, value in vars(member).items() if is_method(value) and key[0] != "_"]
            assert [key for key in methods if not getattr(member, key).__doc__] == [], name


@pytest.mark.parametrize("module", MATHEMATICS)
def test_every_public_function_of_the_mathematics_has_a_doctest(module: str) -> None:
    loaded = module_named(module)
    exported = {name for name in lightning_infoplane.__all__ if inspect.isfunction(getattr(loaded, name, None))}
    mine = {name for name, _ in public_objects(loaded)} & exported
    assert [name for name in sorted(mine) if ">>>" not in (getattr(loaded, name).__doc__ or "")] == []


@pytest.mark.parametrize("module", SOURCES)
def test_functions_and_modules_stay_short(module: str) -> None:
    lines = SOURCES[module].read_text(encoding="utf-8").count("\n")
    assert lines <= LONGEST_MODULE
    lengths = {function.name: length_without_docstring(function) for function in functions(tree_of(module))}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FUNCTION} == {}


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_is_left_for_later(module: str) -> None:
    text = SOURCES[module].read_text(encoding="utf-8")
    assert [mark for mark in ("TO" + "DO", "FIX" + "ME", "XXX") if mark in text] == []


def test_the_mathematics_loads_without_lightning_in_sight() -> None:
    """The rooms' files alone, without the package's ``__init__``, need no framework."""
    code = (
        "import sys, types, importlib\n"
        f"package = types.ModuleType({NAME!r}); package.__path__ = [{str(PACKAGE)!r}]\n"
        f"sys.modules[{NAME!r}] = package\n"
        f"[importlib.import_module({NAME!r} + '.' + room) for room in {FRAMEWORK_FREE!r}]\n"
        "print([m for m in ('lightning', 'pytorch_lightning', 'torchmetrics', 'matplotlib') if m in sys.modules])"
    )
    assert run_python(code) == "[]"

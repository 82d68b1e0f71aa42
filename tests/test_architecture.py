"""The house: who may import whom, what loads what, and where the names of quantities may stand. Held by reading it."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import lightning_infoplane
from lightning_infoplane.measurement.quantities import QUANTITIES

PACKAGE = Path(lightning_infoplane.__file__).parent
NAME = lightning_infoplane.__name__
TESTS = Path(__file__).parent


def dotted(path: Path) -> str:
    """``estimator.grams`` for estimator/grams.py; the rooms of the ground floor have one word."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


SOURCES = {dotted(path): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = [module for module in SOURCES if not module.endswith("__init__")]

# Which of our packages and modules each may import, beside those of its own package.
ARROWS: dict[str, set[str]] = {
    "arguments": set(),
    "estimator": {"arguments"},
    "network": {"arguments", "estimator.precision"},
    "measurement": {"arguments", "estimator"},
    "metrics": {"arguments", "estimator"},
    "views": {"arguments", "measurement", "estimator.limits"},
    "trainer": {"arguments", "network", "measurement"},
    "options": {"arguments", "network", "measurement"},
    "monitor": {"arguments", "options", "network", "measurement"},
    "checkpoints": {"monitor", "options", "network", "measurement"},
    "callback": {"arguments", "options", "monitor", "views", "trainer"},
    "__main__": {"arguments", "monitor", "checkpoints", "views"},
}
# Values that are handed on from room to room; whoever hands them on may import them from where they live.
VALUE_TYPES = {
    *("Row", "Pair", "History", "Estimator", "Choice", "Redundancy", "Notices"),
    *("Probe", "Draw", "ErrorSignals", "LayerSpec", "Readouts"),
}
PACKAGES = {"arguments", "estimator", "network", "measurement", "views", "trainer"}
# What these may import from outside, at any depth: a plain PyTorch loop can use the first four.
OUTSIDE: dict[str, set[str]] = {
    "estimator": {"torch"},
    "network": {"torch"},
    "measurement": {"torch"},
    "monitor": {"torch"},
    "checkpoints": {"torch"},
    "options": {"torch"},
    "views": {"numpy", "matplotlib", "tensorboard"},
    "metrics": {"torch", "torchmetrics"},
    "trainer": {"torch", "torchmetrics", "lightning", "pytorch_lightning", "matplotlib", "tqdm"},
    "callback": {"torch", "lightning", "pytorch_lightning", "matplotlib"},
    "__main__": set(),
    "arguments": {"torch"},
    "__init__": {"lazy_loader"},
}
MATHEMATICS = [module for module in MODULES if module.startswith("estimator.")]
LONGEST_MODULE = 450
# The one table of quantities: by contract a new quantity is one entry there and nothing anywhere else, so it cannot be
# split, and it grows with each. It is data: what is code in it is held short below.
ONE_TABLE = "measurement.quantities"


def tree_of(module: str) -> ast.Module:
    return ast.parse(SOURCES[module].read_text(encoding="utf-8"))


def room_of(module: str) -> str:
    """A module's package, or the module itself where it stands alone."""
    return module.split(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module, name) of all imports, those inside functions too; the name is empty for a plain import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module is not None
            yield from ((node.module, alias.name) for alias in node.names)


def our_imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """(module of ours, name): both spellings, ``from package.room import x`` and ``from package import room``."""
    for module, name in imports(tree):
        if module == NAME and f"{name}" in {room_of(one) for one in SOURCES}:
            yield name, ""
        elif module.startswith(f"{NAME}."):
            inner = module.removeprefix(f"{NAME}.")
            yield (f"{inner}.{name}", "") if f"{inner}.{name}" in SOURCES else (inner, name)


def foreign_imports(tree: ast.AST) -> set[str]:
    return {module.split(".")[0] for module, _ in imports(tree)} - {NAME} - sys.stdlib_module_names


def forbidden(module: str, tree: ast.AST) -> list[str]:
    """Imports that the table does not allow to a module."""
    mine = room_of(module)
    allowed = ARROWS[mine] | ({mine} if mine in PACKAGES else set())
    return [
        f"{target}.{name}"
        for target, name in our_imports(tree)
        if name not in VALUE_TYPES and not any(target == one or target.startswith(f"{one}.") for one in allowed)
    ]


def module_named(name: str) -> ModuleType:
    parts = name.removesuffix("__init__").rstrip(".")
    return importlib.import_module(f"{NAME}.{parts}" if parts else NAME)


def public_objects(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Functions and classes of ``__all__`` that the module itself defines."""
    for name in getattr(module, "__all__", ()):
        member = getattr(module, name)
        if (inspect.isfunction(member) or inspect.isclass(member)) and member.__module__ == module.__name__:
            yield name, member


def is_method(member: object) -> bool:
    """A function written as such: a field whose default is a lambda is none."""
    return inspect.isfunction(member) and member.__name__ != "<lambda>"


def run_python(code: str) -> str:
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return finished.stdout.strip()


# -------------------------------------------------------------------------------------------------------- imports


def test_every_room_has_a_row_in_the_table() -> None:
    assert {room_of(module) for module in MODULES} == set(ARROWS)
    assert {room_of(module) for module in SOURCES} <= set(OUTSIDE)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    assert forbidden(module, tree_of(module)) == []


def test_the_table_of_rooms_has_no_circle() -> None:
    rooms = {room: {room_of(target) for target in targets} for room, targets in ARROWS.items()}
    list(TopologicalSorter(rooms).static_order())


def test_modules_import_each_other_in_no_circle() -> None:
    """Imports for a type checker alone included."""
    graph = {module: {target for target, _ in our_imports(tree_of(module))} for module in MODULES}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("module", SOURCES)
def test_a_room_needs_of_the_world_only_what_the_table_says(module: str) -> None:
    assert foreign_imports(tree_of(module)) <= OUTSIDE[room_of(module)]


def test_the_checks_see_nested_imports_and_arrows_that_run_back() -> None:
    nested = ast.parse(
        f"def f():\n    import lightning\n    from {NAME}.callback import X\n    from {NAME} import views"
    )
    assert foreign_imports(nested) == {"lightning"}
    assert set(our_imports(nested)) == {("callback", "X"), ("views", "")}
    assert forbidden("estimator.grams", nested) == ["callback.X", "views."]
    assert forbidden("callback", ast.parse(f"from {NAME}.measurement.rows import Row")) == []
    assert forbidden("callback", ast.parse(f"from {NAME}.measurement.columns import counts")) != []


def test_no_folder_is_called_like_the_function_measure() -> None:
    assert not (PACKAGE / "measure").exists()


def test_private_attributes_of_lightning_stand_in_two_rooms() -> None:
    """Elsewhere an underscore belongs to oneself, or to a neighbour of the same class."""
    private = re.compile(r"\b(trainer|pl_module|logger)(\.\w+)*\._\w+")
    rooms = {module for module, path in SOURCES.items() if private.search(path.read_text(encoding="utf-8"))}
    assert rooms == {"trainer.position", "trainer.data"}


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_imports_matplotlib_when_it_is_imported(module: str) -> None:
    """Imports at a module's level are those outside functions and outside ``if TYPE_CHECKING``."""
    level = [node for node in tree_of(module).body if not is_type_checking(node)]
    at_import = [
        name
        for statement in level
        if not isinstance(statement, ast.FunctionDef | ast.ClassDef)
        for name, _ in imports(statement)
    ]
    assert not [name for name in at_import if name.split(".")[0] == "matplotlib"]


def test_the_package_loads_nothing_until_a_name_is_used() -> None:
    heavy = "{'torch', 'numpy', 'lightning'}"
    code = f"import sys, {NAME} as p; dir(p); print(p.__version__, sorted({heavy} & {{*sys.modules}}))"
    assert run_python(code) == f"{lightning_infoplane.__version__} []"


def test_help_takes_a_tenth_of_the_time_of_lightning_at_most() -> None:
    """It takes a hundredth here, so that once is enough: what a busy machine adds is no business of ours."""

    def seconds(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    assert seconds("-m", NAME, "--help") <= 0.1 * seconds("-c", "import lightning.pytorch")


# ------------------------------------------------------------------------------------------------ names and words


def test_the_stub_lists_every_public_name_once() -> None:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    imported = [alias.name for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names]
    listed = next(ast.literal_eval(node.value) for node in ast.walk(stub) if isinstance(node, ast.Assign))
    assert sorted(imported) == sorted(set(listed)) == lightning_infoplane.__all__
    assert [name for name in imported if not hasattr(lightning_infoplane, name)] == []


def test_every_public_name_imports_with_a_star() -> None:
    namespace: dict[str, object] = {}
    exec(f"from {NAME} import *", namespace)
    assert set(lightning_infoplane.__all__) <= set(namespace)


def literals(tree: ast.AST) -> Iterator[str]:
    """Strings that are no docstrings, pieces of f-strings included."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    docstrings = {id(first.value) for first in bodies if isinstance(first, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


@pytest.mark.parametrize("module", [module for module in SOURCES if module != ONE_TABLE])
def test_keys_of_quantities_stand_in_their_table_alone(module: str) -> None:
    keys = {one.key for quantity in QUANTITIES for one in (quantity, *quantity.derived)}
    # Words that sentences use too, and functions of the mathematics that bear the name of what they compute.
    keys -= {"bandwidth", "outlier", *(name for name, _ in public_objects(module_named(module)))}
    found = [text for text in literals(tree_of(module)) for key in keys if re.search(rf"\b{re.escape(key)}\b", text)]
    assert found == []


def test_the_search_for_keys_sees_them_in_strings_and_not_in_docstrings() -> None:
    tree = ast.parse('"""I_XT."""\nkey = f"I_XT/{layer}"\n\ndef f():\n    """H_T."""\n    return "H_T"')
    assert sorted(literals(tree)) == ["H_T", "I_XT/"]


@pytest.mark.parametrize("module", MODULES)
def test_every_name_in_all_exists_once_and_in_order(module: str) -> None:
    loaded = module_named(module)
    names = list(loaded.__all__)
    assert len(names) == len(set(names))
    assert [name for name in names if not hasattr(loaded, name)] == []


@pytest.mark.parametrize("module", MODULES)
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


@pytest.mark.parametrize("module", [module for module in SOURCES if module != ONE_TABLE])
def test_modules_stay_short(module: str) -> None:
    """Functions are held short by their complexity: see ruff's settings."""
    assert SOURCES[module].read_text(encoding="utf-8").count("\n") <= LONGEST_MODULE


def test_what_is_code_in_the_one_table_is_short() -> None:
    functions = [node for node in tree_of(ONE_TABLE).body if isinstance(node, ast.FunctionDef)]
    assert sum((one.end_lineno or 0) - one.lineno + 1 for one in functions) < 50


# Words of the old reading of these numbers: a layer with more information than the one before breaks no rule, and no
# curve "can be read" as such.
OUTDATED = ("violat", "the curve can be read", "no larger than for shuffled pairs")


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_is_called_a_breach_of_the_inequality(module: str) -> None:
    text = " ".join(SOURCES[module].read_text(encoding="utf-8").lower().split())
    assert [words for words in OUTDATED if words in text] == []


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.parametrize("module", SOURCES)
def test_nothing_is_left_for_later(module: str) -> None:
    text = SOURCES[module].read_text(encoding="utf-8")
    assert [mark for mark in ("TO" + "DO", "FIX" + "ME", "XXX") if mark in text] == []


@pytest.mark.parametrize("module", SOURCES)
def test_a_line_assigns_one_thing(module: str) -> None:
    """To take a result apart is one thing; to write two assignments as a tuple is not."""
    packed = [
        ast.unparse(node)
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple) and isinstance(node.value, ast.Tuple)
    ]
    assert packed == []


# ------------------------------------------------------------------------------------------------------ the tests


def test_tests_mirror_the_packages() -> None:
    folders = {path.name for path in TESTS.iterdir() if path.is_dir() and any(path.glob("test_*.py"))}
    assert folders == PACKAGES | {"callback", "thirdparty"}


@pytest.mark.parametrize("path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_reaches_into_a_private_name_of_ours(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    reached = [name for module, name in imports(tree) if module.startswith(NAME) and name.startswith("_")]
    rooms = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if (node.module or "").startswith(NAME)
    }
    reached += [
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in rooms
        if node.attr.startswith("_") and not node.attr.startswith("__") and node.attr not in ("_replace", "_fields")
    ]
    assert reached == []

"""The rules of the house, read from the source: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "risctl"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    "errors",
    "text",
    "registry",
    "config",
    "physics",
    "parallel",
    "data",
    "covariance",
    "model",
    "losses",
    "training",
    "inference",
    "evaluation",
    "hpo",
    "plots",
    "report",
    "runs",
    "api",
    "cli",
)
FORBIDDEN_PAIRS = {("covariance", "data"), ("inference", "training"), ("inference", "data")}
OWNERS = {
    "typer": {"cli"},
    "rich": {"cli"},
    "optuna": {"hpo"},
    "matplotlib": {"plots"},
    "jinja2": {"report"},
}
HEAVY = ("torch", "numpy", "scipy", "optuna", "matplotlib")
MAX_LINES = 450
MAX_FUNCTION_LINES = 60


def _name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def _layer(path: Path) -> str:
    """Return the first part below the package; `__init__` and `__main__` are the package itself."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_a_layer_imports_only_from_those_above_it(path: Path) -> None:
    layer = _layer(path)
    if layer in ("__init__", "__main__"):
        return
    assert layer in LAYERS, f"{path}: a layer that the list does not know"
    for name in _imports(_tree(path)):
        parts = name.split(".")
        if parts[0] != "risctl" or len(parts) == 1 or parts[1] not in LAYERS:
            continue
        assert LAYERS.index(parts[1]) <= LAYERS.index(layer), f"{path}: {layer} imports {name}"
        assert (layer, parts[1]) not in FORBIDDEN_PAIRS, f"{path}: {layer} imports {name}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_libraries_stay_with_their_owners(path: Path) -> None:
    for name in _imports(_tree(path)):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or _layer(path) in owners, f"{path} imports {name}"


@pytest.mark.parametrize("path", [p for p in SOURCES if _layer(p) in ("config", "errors")], ids=_name)
def test_config_needs_no_arrays(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(_tree(path))} & set(HEAVY)


def _run_time_imports(tree: ast.Module) -> Iterator[tuple[bool, str]]:
    """Imports that are executed, with whether they stand inside a function; not those for type checkers."""
    for node in tree.body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        for child in ast.walk(node):
            if isinstance(child, ast.Import | ast.ImportFrom):
                inside = not isinstance(node, ast.Import | ast.ImportFrom)
                yield from ((inside, name) for name in _imports(child))


CLI = [path for path in SOURCES if _layer(path) == "cli"]
RUNS = [path for path in SOURCES if _layer(path) == "runs"]
OF_COMMANDS = {"cli", "runs", "plots", "config", "errors", "registry", "text"}


@pytest.mark.parametrize("path", CLI, ids=_name)
def test_a_command_knows_the_runs_and_the_settings_and_nothing_below(path: Path) -> None:
    for inside, name in _run_time_imports(_tree(path)):
        parts = name.split(".")
        assert parts[0] not in HEAVY, f"{path} imports {name}"
        if parts[0] == "risctl" and len(parts) > 1 and parts[1] in LAYERS:
            assert parts[1] in OF_COMMANDS, f"{path} imports {name}"
            assert inside or parts[1] != "config", f"{path} imports {name} before it is known what is wanted"


def test_the_command_line_is_thin() -> None:
    assert len(CLI) <= 30
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in CLI) <= 3_800
    statements = [node for path in CLI for node in ast.walk(_tree(path)) if isinstance(node, ast.FunctionDef)]
    inside = [n for f in statements for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
    assert len(set(map(id, inside))) <= 36


@pytest.mark.parametrize("path", RUNS, ids=_name)
def test_runs_print_nothing_and_import_at_their_top(path: Path) -> None:
    tree = _tree(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", f"{path}:{node.lineno}"
    optional = "torch.utils.tensorboard"
    names = [name for inside, name in _run_time_imports(tree) if inside and not name.startswith(optional)]
    assert not names, path


@pytest.mark.parametrize("path", [p for p in SOURCES if _layer(p) != "cli"], ids=_name)
def test_the_engine_names_no_flag(path: Path) -> None:
    """An error names a setting, an argument or a file; the command line turns arguments into flags."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("Error"):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    said = re.search(r"(?<!-)--[a-z]|\brisctl [a-z]", part.value)
                    assert not said, f"{path}:{node.lineno}: {part.value}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_nothing_can_execute_a_file(path: Path) -> None:
    """No pickle in any spelling: a data file or checkpoint must never be able to run code."""
    tree = _tree(path)
    modules = {name.split(".")[0] for name in _imports(tree)}
    assert not modules & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in {("torch", "load"), ("torch", "save")}, path
        if isinstance(node, ast.Name):
            assert node.id not in {"eval", "exec"}, path
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            assert isinstance(node.value, ast.Constant), path
            assert node.value.value is False, path


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_no_ambient_or_swallowed_state(path: Path) -> None:
    """No blanket `except`, no unfinished corner, no silenced warning, no training mode in covariances."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"{path}:{node.lineno}: bare except"
            broad = isinstance(node.type, ast.Name) and node.type.id == "Exception"
            assert not broad, f"{path}:{node.lineno}: except Exception"
        if isinstance(node, ast.Name):
            assert node.id != "NotImplementedError", f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"filterwarnings", "simplefilter"}, f"{path}:{node.lineno}"
            in_covariance = _layer(path) == "covariance"
            assert not (in_covariance and node.attr == "training"), f"{path}:{node.lineno}"


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_files_and_functions_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path}: {node.name} has {length} lines"


@pytest.mark.parametrize("arguments", [["--help"], ["eval", "--help"], ["config", "list"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from risctl.cli.app import main\n"
        f"status = main({arguments!r})\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'loaded: {loaded}' if loaded else status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

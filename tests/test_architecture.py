"""The rules of the house, read from the source: who may import whom, and what nobody may do."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "risctl"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAYERS = (
    "errors",
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
    "search",
    "cli",
)
FORBIDDEN_PAIRS = {("covariance", "data"), ("inference", "training"), ("inference", "data")}
OWNERS = {"typer": {"cli"}, "rich": {"cli"}, "optuna": {"search"}, "matplotlib": {"evaluation"}}
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


@pytest.mark.parametrize("path", [p for p in SOURCES if _layer(p) == "cli"], ids=_name)
def test_commands_import_heavy_libraries_inside_their_bodies(path: Path) -> None:
    heavy_layers = {f"risctl.{layer}" for layer in LAYERS[LAYERS.index("physics") : -1]}
    for node in _tree(path).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _imports(node):
                top = ".".join(name.split(".")[:2])
                assert name.split(".")[0] not in HEAVY, f"{path} imports {name}"
                assert top not in heavy_layers, f"{path} imports {name}"


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

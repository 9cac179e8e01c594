"""The layout is the architecture: who may import whom, and what DVC must know of it."""

import ast
from functools import cache
from pathlib import Path

import pytest
import yaml

STAGES = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]

# Arrows point down: a package may import what stands beside it here, and itself.
ALLOWED = {
    "base": set(),
    "params": {"base"},
    "video": {"base"},
    "catalog": {"base"},
    "clips": {"base", "video"},
    "model": {"base", "clips", "video"},
    "evaluation": {"base"},
    "serving": {"base", "clips", "model", "video"},
    "tracking": {"base", "catalog", "clips", "model", "serving", "video"},
    "page": set(),
    "review": {"base", "evaluation", "page", "video"},
    "compare": {"base", "evaluation", "page", "params", "tracking"},
    "promotion": {"base", "catalog", "evaluation", "tracking", "video"},
    "datacheck": {"base", "catalog", "evaluation"},
    "lineage": {"base", "catalog", "promotion", "tracking"},
    "retraining": {"base", "catalog", "lineage", "promotion", "tracking"},
}
HEAVY = {"tensorflow", "keras", "mlflow", "sklearn", "matplotlib"}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Name every module that a file imports, wherever in the file: pipeline.video.store, av, ..."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def file_of(name: str) -> Path | None:
    """Find the file of a dotted name of ours; the last part may be a name inside the module."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        path = Path(*parts[:end])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


@cache
def reachable(path: Path) -> frozenset[Path]:
    """Every file of ours that importing ``path`` runs, packages' __init__.py included."""
    found, to_visit = set(), [path]
    while to_visit:
        current = to_visit.pop()
        if current in found:
            continue
        found.add(current)
        inits = [parent / "__init__.py" for parent in current.parents if parent.name]
        imported = [file_of(name) for name in imports_of(current) if name.startswith("pipeline")]
        to_visit += [file for file in (*inits, *imported) if file is not None and file.is_file()]
    return frozenset(found)


def module_files() -> list[Path]:
    return sorted(Path("pipeline").rglob("*.py"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_every_file_that_it_imports(stage):
    deps = [Path(dep) for dep in STAGES[stage]["deps"] if dep.startswith("pipeline")]
    missing = [
        str(file)
        for file in sorted(reachable(Path(f"pipeline/stages/{stage}.py")))
        if not any(file.is_relative_to(dep) for dep in deps)
        and file not in (Path("pipeline/__init__.py"), Path("pipeline/stages/__init__.py"))
    ]
    assert not missing, f"add to deps of {stage} in dvc.yaml: {missing}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_nothing_that_it_does_not_import(stage):
    files = reachable(Path(f"pipeline/stages/{stage}.py"))
    deps = [dep for dep in STAGES[stage]["deps"] if dep.startswith("pipeline")]
    unused = [dep for dep in deps if not any(file.is_relative_to(dep) for file in files)]
    assert not unused


@pytest.mark.parametrize("package", ["pipeline", "pipeline/stages"])
def test_packages_left_out_of_the_deps_hold_nothing_but_a_docstring(package):
    body = ast.parse(Path(package, "__init__.py").read_text()).body
    assert [type(node) for node in body] == [ast.Expr]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_has_its_module_its_section_and_its_command(stage):
    params = yaml.safe_load(Path("params.yaml").read_text())
    assert stage in params
    assert STAGES[stage]["cmd"] == f"python -m pipeline.stages.{stage}"
    assert Path(f"pipeline/stages/{stage}.py").is_file()


@pytest.mark.parametrize("path", module_files(), ids=str)
def test_imports_point_down(path):
    layer = path.parts[1].removesuffix(".py")
    if layer not in ALLOWED:
        return  # stages and commands stand on top
    used = {name.split(".")[1] for name in imports_of(path) if name.startswith("pipeline.")}
    assert used - {layer} <= ALLOWED[layer]


@pytest.mark.parametrize("stage", ["catalog", "decode", "extract"])
def test_data_stages_start_fast(stage):
    files = reachable(Path(f"pipeline/stages/{stage}.py"))
    heavy = {
        f"{file}: {name}"
        for file in files
        for name in imports_of(file)
        if name.split(".")[0] in HEAVY
    }
    assert not heavy


def test_only_the_dataset_module_of_the_data_packages_imports_tensorflow():
    importers = {
        str(path)
        for package in ("video", "catalog", "clips")
        for path in Path("pipeline", package).rglob("*.py")
        if any(name.split(".")[0] in {"tensorflow", "keras"} for name in imports_of(path))
    }
    assert importers == {"pipeline/clips/dataset.py"}


def test_modules_are_short():
    long = {
        str(path): count
        for path in module_files()
        if (count := len(path.read_text().splitlines())) > 260
    }
    assert not long

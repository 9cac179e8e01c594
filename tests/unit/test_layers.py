"""The layout is the architecture: which package may import which, and what DVC watches."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

STAGES = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]

# From the bottom up: a package imports packages before it, and itself.
LAYERS = (
    "common",
    "compute",
    "tracking",
    "tasks",
    "dataset",
    "importing",
    "video",
    "clips",
    "model",
    "evaluation",
    "data_report",
    "serving",
    "review",
    "registry",
    "params",
    "retraining",
    "setup",
    "stages",
    "cli",
)

# Modules that change no output of a stage: DVC does not watch them.
OBSERVERS = (
    "pipeline/__init__.py",
    "pipeline/params.py",
    "pipeline/compute",
    "pipeline/tracking",
    "pipeline/registry",
    "pipeline/common/command.py",
    "pipeline/common/errors.py",
    "pipeline/common/paths.py",
    "pipeline/common/settings.py",
    "pipeline/stages/__init__.py",
)

# Packages that DVC watches as a whole: a row each in the table of docs/architecture.md.
WHOLE = ("evaluation", "model", "review", "serving", "tasks", "video")

# Imported for the methods of a task that the train stage does not call.
UNUSED_IN_TRAINING = (
    "pipeline/common/bootstrap.py",
    "pipeline/common/charts.py",
    "pipeline/common/records.py",
    "pipeline/common/tables.py",
)

# Packages that take long to import, and who may import them.
HEAVY = {"tensorflow", "keras", "mlflow", "sklearn", "matplotlib", "dvc", "optuna", "pandas", "ray"}


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Every module that a file imports when it runs, wherever in the file."""
    names = set()
    to_visit = [ast.parse(path.read_text())]
    while to_visit:
        node = to_visit.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        to_visit += ast.iter_child_nodes(node)
    return frozenset(names)


def file_of(name: str) -> Path | None:
    """The file of a dotted name; the last part may be a name inside the module."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        path = Path(*parts[:end])
        if path.with_suffix(".py").is_file():
            return path.with_suffix(".py")
        if (path / "__init__.py").is_file():
            return path / "__init__.py"
    return None


def imported_files(path: Path) -> list[Path]:
    files = [file_of(name) for name in imports_of(path) if name.split(".")[0] == "pipeline"]
    return [file for file in files if file is not None]


def is_observer(path: Path) -> bool:
    is_settings = path.name == "settings.py"
    return is_settings or any(path.is_relative_to(observer) for observer in OBSERVERS)


@cache
def watched(stage: str) -> frozenset[Path]:
    """The files that can change the outputs of a stage: what it imports, without observers."""
    if stage == "register":
        # It stores what the stages before it made, and the code that serves it.
        serving = [path for path in Path("pipeline/serving").glob("*.py") if not is_observer(path)]
        return frozenset({Path("pipeline/stages/register.py"), *serving})
    found: set[Path] = set()
    to_visit = [Path(f"pipeline/stages/{stage}.py")]
    while to_visit:
        current = to_visit.pop()
        if current in found or is_observer(current):
            continue
        if stage == "train" and str(current) in UNUSED_IN_TRAINING:
            continue
        found.add(current)
        if "tasks" in current.parts and current.name == "task.py":
            # The task of params.yaml is imported by name.
            to_visit += sorted(Path("pipeline/tasks").glob("*.py"))
        to_visit += imported_files(current)
        to_visit += [
            init
            for parent in current.parents
            if (init := parent / "__init__.py").is_file() and imported_files(init)
        ]
    return frozenset(path for path in found if path.name != "__init__.py" or imported_files(path))


def modules() -> list[Path]:
    return sorted(Path("pipeline").rglob("*.py"))


def package_of(path: Path) -> str:
    return path.parts[1] if len(path.parts) > 2 else path.stem


def test_packages_import_only_lower_layers():
    wrong = [
        f"{path} imports {imported}"
        for path in modules()
        for imported in imported_files(path)
        if path.name != "settings.py"
        and imported.parent != Path("pipeline")
        and package_of(path) in LAYERS
        and LAYERS.index(package_of(imported)) > LAYERS.index(package_of(path))
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle():
    done: set[Path] = set()

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert path not in trail, [*map(str, trail), str(path)]
        if path in done:
            return
        for imported in imported_files(path):
            if imported != path:
                visit(imported, (*trail, path))
        done.add(path)

    for path in modules():
        visit(path, ())


def test_settings_import_nothing_but_settings():
    allowed = {
        *Path("pipeline").glob("*/settings.py"),
        Path("pipeline/common/bootstrap.py"),
        Path("pipeline/tasks/targets.py"),
    }
    for path in Path("pipeline").glob("*/settings.py"):
        assert set(imported_files(path)) <= allowed, path


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_watches_what_can_change_its_outputs_and_nothing_else(stage):
    deps = [Path(dep) for dep in STAGES[stage]["deps"] if dep.startswith("pipeline")]
    missing = {
        str(file) for file in watched(stage) if not any(file.is_relative_to(dep) for dep in deps)
    }
    assert not missing, f"add to the deps of {stage} in dvc.yaml: {sorted(missing)}"
    in_vain = {
        str(file)
        for dep in deps
        for file in ([] if dep.name in WHOLE else dep.rglob("*.py") if dep.is_dir() else [dep])
        if file not in watched(stage) and not is_observer(file) and file.name != "__init__.py"
    }
    assert not in_vain, f"edits of these rerun {stage} in vain: {sorted(in_vain)}"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_a_thin_main(stage):
    assert len(Path(f"pipeline/stages/{stage}.py").read_text().splitlines()) <= 100


@pytest.mark.parametrize(
    "module",
    ["pipeline.cli", *(f"pipeline.stages.{name}" for name in ("catalog", "decode", "extract"))],
)
def test_data_stages_and_the_command_line_start_without_heavy_packages(module):
    code = f"import sys, {module}; print(*{HEAVY!r}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_architecture_page_names_files_that_exist():
    page = Path("docs/architecture.md").read_text()
    named = {
        word.strip("`,.;:()")
        for line in page.splitlines()
        for word in line.split()
        if word.startswith(("`pipeline/", "`tests/", "`docs/", "`benchmarks/", "`data/"))
    }
    assert len(named) > 10
    missing = [name for name in named if "*" not in name and not Path(name).exists()]
    assert not missing

"""The house's order: which way imports point, what stays optional, what is documented."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "hisplat_models": ROOT / "models/hisplat_models",
    "hisplat_data_tools": ROOT / "data_tools/hisplat_data_tools",
    "hisplat_viewer": ROOT / "viewer/hisplat_viewer",
    "hisplat_app": ROOT / "hisplat_app",
}
# What a package may import of the others: modules with everything below them.
MAY_IMPORT = {
    "hisplat_models": (),
    "hisplat_data_tools": (
        "hisplat_models.cameras",
        "hisplat_models.gaussians",
        "hisplat_models.example",
        "hisplat_models.compilation",
    ),
    "hisplat_viewer": (
        "hisplat_models.cameras",
        "hisplat_models.gaussians",
        "hisplat_models.gaussian_filters",
        "hisplat_models.home_view",
        "hisplat_models.spherical_harmonics",
        "hisplat_models.rendering.base",
    ),
    "hisplat_app": ("hisplat_models", "hisplat_data_tools", "hisplat_viewer"),
}
OPTIONAL = (
    "accelerate",
    "gsplat",
    "huggingface_hub",
    "lpips",
    "nerfstudio",
    "pillow_heif",
    "tensorboard",
    "torch_pruning",
    "torchvision",
    "viser",
)


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str):
    allowed = MAY_IMPORT[package]
    wrong = [
        f"{place} imports {module}"
        for place, module in _absolute_imports(package)
        if module.split(".")[0] in PACKAGES.keys() - {package}
        and not any(module == name or module.startswith(name + ".") for name in allowed)
    ]
    assert wrong == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_inside_a_package_are_relative(package: str):
    own = [
        f"{place} imports {module}"
        for place, module in _absolute_imports(package)
        if module.split(".")[0] == package
    ]
    assert own == []


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_documented(package: str):
    undocumented = []
    for path, tree in _modules(package):
        if not ast.get_docstring(tree):
            undocumented.append(f"{path} itself")
        undocumented += [
            f"{path}:{node.lineno} {node.name}"
            for node in _public_definitions(tree)
            if not ast.get_docstring(node)
        ]
    assert undocumented == []


@pytest.mark.parametrize("package", PACKAGES)
def test_annotations_are_kept_for_run_time_checks(package: str):
    postponed = [
        place for place, name in _absolute_imports(package) if name == "__future__.annotations"
    ]
    assert postponed == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_is_typed(package: str):
    assert (PACKAGES[package] / "py.typed").is_file()


@pytest.mark.parametrize("folder", ["models", "viewer", "data_tools", "tests"])
def test_source_folder_is_no_package_itself(folder: str):
    assert not (ROOT / folder / "__init__.py").exists()


@pytest.mark.parametrize("module", ["hisplat_models", "hisplat_models.network", "hisplat_app"])
def test_import_loads_nothing_optional(module: str):
    program = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = {name.split(".")[0] for name in run.stdout.split()}
    assert module.split(".")[0] in loaded
    assert loaded.isdisjoint(OPTIONAL)


def _modules(package: str) -> list[tuple[Path, ast.Module]]:
    paths = sorted(PACKAGES[package].rglob("*.py"))
    assert paths, f"{package} has no modules in {PACKAGES[package]}"
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in paths]


def _absolute_imports(package: str) -> Iterator[tuple[str, str]]:
    """Place and full name of every module or name that is imported, also inside functions."""
    for path, tree in _modules(package):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield f"{path}:{node.lineno}", alias.name
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                for alias in node.names:
                    yield f"{path}:{node.lineno}", f"{node.module}.{alias.name}"


def _public_definitions(
    tree: ast.Module,
) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]:
    """Functions and classes of a module, and methods of its public classes, without underscore."""
    bodies: list[list[ast.stmt]] = [tree.body]
    while bodies:
        for node in bodies.pop():
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_"):
                continue
            yield node
            if isinstance(node, ast.ClassDef):
                bodies.append(node.body)

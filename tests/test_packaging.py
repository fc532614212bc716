"""What a wheel brings: the four packages with their data, the commands, and nothing else."""

import ast
import configparser
import re
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import EntryPoint, packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE_FOLDERS = {
    "hisplat_app": ROOT / "hisplat_app",
    "hisplat_models": ROOT / "models/hisplat_models",
    "hisplat_viewer": ROOT / "viewer/hisplat_viewer",
    "hisplat_data_tools": ROOT / "data_tools/hisplat_data_tools",
}
NOT_SHIPPED = {".pyc", ".nbi", ".nbc"}  # caches of Python and numba


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_exactly_the_files_of_the_packages(wheel: zipfile.ZipFile):
    expected = {
        str(name / path.relative_to(folder))
        for name, folder in ((Path(n), f) for n, f in PACKAGE_FOLDERS.items())
        for path in folder.rglob("*")
        if path.is_file() and path.suffix not in NOT_SHIPPED
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


@pytest.mark.parametrize("package", PACKAGE_FOLDERS)
def test_wheel_says_that_packages_are_typed(wheel: zipfile.ZipFile, package: str):
    assert f"{package}/py.typed" in wheel.namelist()


def test_wheel_carries_the_licence(wheel: zipfile.ZipFile):
    (name,) = [n for n in wheel.namelist() if n.endswith("/licenses/LICENSE")]
    assert "Apache License" in wheel.read(name).decode()


@pytest.mark.parametrize("command", ["hisplat", "hisplat-view"])
def test_commands_of_the_wheel_can_be_called(wheel: zipfile.ZipFile, command: str):
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt")]
    entry_points = configparser.ConfigParser()
    entry_points.read_string(wheel.read(name).decode())
    value = entry_points["console_scripts"][command]
    assert callable(EntryPoint(command, value, "console_scripts").load())


def test_every_library_that_is_imported_is_declared(wheel: zipfile.ZipFile):
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    requirements = message_from_bytes(wheel.read(name)).get_all("Requires-Dist", [])
    declared = {_normalised(re.split(r"[^\w.-]", line)[0]) for line in requirements}
    imported = {
        module
        for path in wheel.namelist()
        if path.endswith(".py")
        for module in _imported_libraries(wheel.read(path))
    }
    assert {"torch", "numpy"} <= imported
    providers = packages_distributions()  # cv2 comes from opencv-python-headless
    assert [
        module
        for module in sorted(imported)
        if declared.isdisjoint(_normalised(d) for d in providers.get(module, [module]))
    ] == []


def _imported_libraries(source: bytes) -> set[str]:
    """First parts of imported names that are neither Python's own nor ours."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names - sys.stdlib_module_names - PACKAGE_FOLDERS.keys()


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()

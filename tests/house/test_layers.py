"""The layers are really enforced: what points up, or belongs elsewhere, is caught."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "isthmus"


def check_contracts(root: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as check; check(['--no-cache'])"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def placed_packages() -> set[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    contract = next(c for c in settings["contracts"] if c["type"] == "layers")
    return {name.strip() for layer in contract["layers"] for name in layer.split(":")}


def test_every_package_has_its_place_in_the_layers():
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    modules = {path.stem for path in SOURCE.glob("*.py")} - {"__init__", "__main__"}
    unplaced = {f"isthmus.{name}" for name in packages | modules} - placed_packages()
    assert unplaced == set()


def test_broken_arrows_are_caught(tmp_path):
    """In a copy of the source, an import of each forbidden kind breaks its contract."""
    shutil.copytree(SOURCE, tmp_path / "src" / "isthmus")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, line in {
        "data/__init__.py": "import isthmus.session",
        "metrics/__init__.py": "import torch",
        "split/__init__.py": "import ssl",
        "jobs/__init__.py": "import typer",
    }.items():
        path = tmp_path / "src" / "isthmus" / module
        path.write_text(path.read_text() + f"\n{line}\n")
    broken = check_contracts(tmp_path)
    assert broken.returncode == 1, broken.stdout + broken.stderr
    for arrow in (
        "isthmus.data -> isthmus.session",
        "isthmus.metrics -> torch",
        "isthmus.split -> ssl",
        "isthmus.jobs -> typer",
    ):
        assert arrow in broken.stdout

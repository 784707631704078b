"""Packages of npm that tests run with Node.js."""

import shutil
import subprocess
from pathlib import Path

from ..processes import PATIENCE


def install_package(name: str, directory: Path) -> Path:
    """Install the locked dependencies of a package in this directory, and return the copy with them."""
    assert shutil.which("npm"), "these tests need Node.js with npm"
    package = directory / name
    shutil.copytree(Path(__file__).parent / name, package)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    subprocess.run(command, cwd=package, stdout=subprocess.DEVNULL, check=True, timeout=PATIENCE)
    return package

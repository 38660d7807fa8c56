"""The public names: what `import vaenotes as vn` gives, and what a type checker sees of it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import vaenotes as vn

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "vaenotes"
NAMES = vn.__all__[1:]


def whole_examples(readme: str) -> str:
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    return "\n".join(block for block in blocks if "import vaenotes" in block)


def test_a_type_checker_is_told_the_same_names_from_the_same_modules():
    source = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(
        node for node in source.body if isinstance(node, ast.If) and node.test.id == "TYPE_CHECKING"
    )
    told = {}
    for node in block.body:
        for alias in node.names:
            assert alias.asname == alias.name  # else it is not passed on
            told[alias.name] = node.module.removeprefix("vaenotes").lstrip(".") or alias.name
    assert told == vn._HOME


def test_each_name_is_there_and_listed():
    assert set(NAMES) <= set(dir(vn))
    for name in NAMES:
        assert getattr(vn, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'setings'"):
        vn.setings  # noqa: B018


def test_no_name_hides_behind_a_module():
    # Importing a module of the package sets its name there: nothing else may have that name.
    for name in NAMES:
        is_file = (PACKAGE / f"{name}.py").is_file()
        assert isinstance(getattr(vn, name), ModuleType) == is_file, name


def test_listing_the_names_imports_nothing():
    code = (
        "import sys, vaenotes; dir(vaenotes); print([m for m in sys.modules if 'vaenotes.' in m])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_version_has_one_definition():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "version" not in project["project"] and "version" in project["project"]["dynamic"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vaenotes.__version__"}
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == vn.__version__
    newest = re.search(r"^## (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None and newest[1] == vn.__version__


def test_types_are_shipped():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "py.typed" in project["tool"]["setuptools"]["package-data"]["vaenotes"]
    assert (PACKAGE / "py.typed").is_file()


USE = """
configs = report.arm(settings)
shape: tuple[int, ...] = lab.load_data(configs[0]).images.shape
model: vn.VAE = lab.load_model(configs[0])
low: float = outcome.findings["notes.matching"].low
used: bool = lab.summary.counts(runs)["collapsed"] == 0
priors: list[str] = list(vn.PRIORS)
"""
MISUSES = {
    "vn.Setings()": "attr-defined",
    "report.Settings(seed=3)": "call-arg",
    "lab.run(settings)": "arg-type",
    "lab.load_data(configs[0]).image": "attr-defined",
    "number: int = lab.summary.counts(runs)": "assignment",
}


@pytest.mark.slow
def test_a_strict_type_checker_passes_a_users_script_and_finds_misuses(tmp_path):
    script = whole_examples((ROOT / "README.md").read_text()) + USE
    first = script.count("\n") + 1
    (tmp_path / "right.py").write_text(script)
    (tmp_path / "wrong.py").write_text(script + "\n".join(MISUSES))
    # Found as an installed package is, so that py.typed counts; not as the sources under check.
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context"]
    command += ["--cache-dir", str(tmp_path / "cache"), "right.py", "wrong.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    *errors, _ = run.stdout.splitlines()
    found = [re.match(r"(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", line) for line in errors]
    expected = [("wrong", str(first + i), kind) for i, kind in enumerate(MISUSES.values())]
    assert [match and match.groups() for match in found] == expected, run.stdout + run.stderr

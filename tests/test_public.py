"""The public names: what each package gives, and what a type checker sees of it."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import vaenotes as vn

ROOT = Path(__file__).parents[1]
FACES = ["vaenotes", "vaenotes.diagnosis", "vaenotes.lab", "vaenotes.report"]


@pytest.mark.parametrize("package", FACES)
def test_each_name_is_there_and_none_hides_behind_a_module(package):
    face = import_module(package)
    assert set(face.__all__) <= set(dir(face))
    modules = {path.stem for path in Path(face.__file__).parent.iterdir()}
    for name in face.__all__:
        # Importing a module of the package sets its name there: nothing else may have that name.
        assert isinstance(getattr(face, name), ModuleType) or name not in modules, name
    with pytest.raises(AttributeError, match="setings"):
        face.setings  # noqa: B018


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
    shipped = project["tool"]["setuptools"]["package-data"]["vaenotes"]
    assert {"py.typed", "**/*.pyi"} <= set(shipped)
    assert (ROOT / "vaenotes" / "py.typed").is_file()


USE = """\
import vaenotes as vn
from vaenotes import lab, report

settings = report.Settings(profile="quick", prior="diagonal")
configs = report.arm(settings, "notes")
runs = lab.run(configs)
outcome = report.experiment(settings, "bed_of_nails")
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
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    whole = [block for block in blocks if "import vaenotes" in block]
    assert whole
    scripts = {f"readme_{number}.py": block for number, block in enumerate(whole)}
    scripts |= {"use.py": USE, "misuse.py": USE + "\n".join(MISUSES)}
    for name, script in scripts.items():
        (tmp_path / name).write_text(script)
    # Found as an installed package is, so that py.typed counts; not as the sources under check.
    command = [sys.executable, "-m", "mypy", "--strict", "--hide-error-context", *scripts]
    command += ["--cache-dir", str(ROOT / ".mypy_cache" / "users")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    errors = [line for line in run.stdout.splitlines() if ": error: " in line]
    found = [re.match(r"(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", line) for line in errors]
    first = USE.count("\n") + 1
    expected = [("misuse", str(first + i), kind) for i, kind in enumerate(MISUSES.values())]
    assert [match and match.groups() for match in found] == expected, run.stdout + run.stderr

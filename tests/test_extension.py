"""The book's Sphinx extension, piece by piece."""

from importlib import import_module
from pathlib import Path

import pytest
import yaml
from small_book import ROOT

import vaenotes
from vaenotes_book import build
from vaenotes_book.api import OUTER, as_rst, modules
from vaenotes_book.facts import citation
from vaenotes_book.pages import calls_in, readable


def test_state_knows_the_library_its_data_every_package_and_the_data_file(tmp_path, monkeypatch):
    library, data = tmp_path / "library", tmp_path / "some.npz"
    metadata = tmp_path / "thing-1.dist-info" / "METADATA"
    for folder in (library / "report", library / "__pycache__", metadata.parent):
        folder.mkdir(parents=True)
    monkeypatch.setattr(build, "HOME", library)
    monkeypatch.syspath_prepend(tmp_path)

    def set_version(number: int) -> None:
        metadata.write_text(f"Metadata-Version: 2.1\nName: thing\nVersion: {number}\n")

    def state() -> tuple[str, list[int]]:
        return build.state(str(data))

    set_version(1)
    seen = {state()[0]}
    for path in (library / "kl.py", library / "report" / "claims.toml", data):
        for content in ("one", "two"):
            path.write_text(content)
            seen.add(state()[0])
    set_version(2)
    seen.add(state()[0])
    assert len(seen) == 8

    before = state()
    (library / "__pycache__" / "kl.pyc").touch()
    assert state() == before
    data.rename(tmp_path / "old")
    (tmp_path / "old").rename(data)
    assert state()[0] == before[0] and state() != before  # changed, and back again


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ("profil=quick", "unknown parameter 'profil'; did you mean 'profile'?"),
        ("data=none.npz", "data must be "),
        ("seeds", "parameters must be name=value pairs, got 'seeds'"),
    ],
)
def test_parameters_are_refused_before_anything_is_done(parameters, message, monkeypatch):
    monkeypatch.setenv("VAENOTES_PARAMETERS", parameters)
    with pytest.raises(SystemExit) as caught:
        build.Build(None)
    assert str(caught.value).startswith(f"VAENOTES_PARAMETERS: {message}")
    assert "\n" not in str(caught.value)


def test_who_draws_is_read_off_a_cell():
    source = """
    lab.plots.ratios(figures.heat(r), page.figures.no()); vn.lab.plots.no()
    report.sliders.units(); lab.plots.ratios(x)"""
    calls = [("lab.plots", "ratios"), ("figures", "heat"), ("report.sliders", "units")]
    assert calls_in(source) == calls


@pytest.mark.parametrize(
    ("number", "printed"),
    [
        ("-0.00", "0.00"), ("+0.000", "0.000"), ("0.0e+00", "0.0"), ("-0%", "0%"),
        ("2e-07", "2 × 10⁻⁷"), ("-1.5e+12", "−1.5 × 10¹²"), ("-0.15", "−0.15"), ("+4", "+4"),
        ("7 of 9", "7 of 9"), ("up-to-date", "up-to-date"), ("nan", "nan"),
    ],
)  # fmt: skip
def test_numbers_read_as_one_prints_them(number, printed):
    assert readable(number) == printed


def test_docstrings_are_prose_in_which_only_code_is_markup():
    block = "    t_ = 2 * s\n\n    u = t_\n"
    prose = f"KL(q || p), z* and z_ of `run`:\n{block}where `` a` `` is `code\nin` two lines."
    first = "KL(q \\|\\| p), z\\* and z\\_ of ``run``:\n"
    last = "where ``a``` is ``code in`` two lines."
    assert as_rst(prose) == f"{first}\n::\n\n{block}\n{last}"


def test_the_page_of_the_library_has_every_module_once():
    circles = ["vaenotes", *OUTER]
    listed = [name for circle in circles for name in modules(import_module(circle))]
    files = Path(vaenotes.__file__).parent.rglob("*.py")
    assert len(listed) + len(circles) == len(list(files)) and len(set(listed)) == len(listed)


def test_the_citation_is_the_one_of_the_file():
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert facts["version"] == vaenotes.__version__
    text, bibtex = citation(ROOT / "CITATION.cff", "2026", "abc1234")
    for fact in (facts["title"], facts["version"], facts["authors"][0]["name"], "2026", "abc1234"):
        assert fact in text and fact in bibtex
    assert bibtex.count("{") == bibtex.count("}")

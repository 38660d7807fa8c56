"""What stands around the code: the README holds what it promises, and the workflow that checks and
publishes is sound as far as that can be told without running it."""

import json
import re
from pathlib import Path

import yaml

from vaenotes.report import prose
from vaenotes_book.pages import NOTEBOOKS

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
JOBS = WORKFLOW["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]
README = (ROOT / "README.md").read_text()


def test_what_the_readme_links_exists():
    links = re.findall(r"\]\((?!https:|\.\./)([^)#]+)\)", README)
    assert {".github/first-page.png", "CONTRIBUTING.md", "CITATION.cff"} <= set(links)
    for link in links:
        assert (ROOT / link).exists(), link


def measured(kind, what):
    """The median of a row of the stored costs, which were taken on two cores."""
    cost = json.loads((ROOT / "vaenotes/report/results" / f"cost_{kind}.json").read_text())
    (row,) = [row for row in cost["rows"] if row["what"].startswith(what)]
    assert "2 cores" in cost["hardware"]
    return row["median"]


def test_the_readme_promises_what_was_measured():
    assert "less than half an hour on two cores" in README
    cold, replicas = measured("book", "from an empty store"), measured("book", "replicas trained")
    assert cold < 30
    assert f"first build, all {replicas:,.0f} replicas trained | {cold:.0f} minutes |" in README
    assert (
        f"nothing changed | {measured('rebuild', 'the book with nothing changed'):.0f} s" in README
    )
    assert f"its runs stored | {measured('rebuild', 'a chapter by papermill'):.0f} s" in README


def test_the_readme_tells_what_became_of_the_runs_at_full_size():
    found = {name.removeprefix("own."): value for name, value in prose.full_size().items()}
    told = " ".join(README.split())
    assert "in {dear_gone} of {dear_n} replicas at the higher".format(**found) in told
    assert "in {rest_gone} of {rest_n} at the lower".format(**found) in told


def test_the_readme_finds_every_page_of_the_contents():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    pages = [toc["root"], *(one["file"] for part in toc["parts"] for one in part["chapters"])]
    way = README.partition("| **in `book/`** |")[2].partition("\n\n")[0]
    assert re.findall(r"`(\w+)`", way.partition("`_ext/")[0]) == pages


def test_the_readme_finds_every_module_of_the_lab_and_the_report():
    way = README.partition("## Find your way")[2].partition("| **in `book/`** |")[0]
    for part in ("", "lab", "report"):
        for file in (ROOT / "vaenotes" / part).glob("*.py"):
            assert file.stem == "__init__" or f"`{file.stem}`" in way, file


def test_the_citation_is_complete():
    facts = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert facts["cff-version"] == "1.2.0" and facts["type"] == "software"
    for name in ("message", "title", "abstract", "keywords", "version", "license", "authors"):
        assert facts[name], name
    assert facts["date-released"].year >= 2026


def test_every_file_that_a_step_runs_exists():
    commands = [step["run"] for step in STEPS if "run" in step]
    words = [word for command in commands for word in re.findall(r"[\w./-]+", command)]
    files = [word for word in words if re.search(r"/|\.txt$", word)]
    assert ".ci/run" in files and "requirements.txt" in files
    for file in files:
        assert (ROOT / file).is_file(), file


def test_only_main_is_published_after_all_checks_by_actions_pinned_by_major_version():
    assert set(JOBS["deploy"]["needs"]) == set(JOBS) - {"deploy"}
    assert JOBS["deploy"]["if"] == "github.ref == 'refs/heads/main'"
    assert all(job.get("permissions") is None for name, job in JOBS.items() if name != "deploy")
    used = [step["uses"] for step in STEPS if "uses" in step]
    assert all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used), used


def test_the_executed_pages_go_where_their_colab_buttons_look():
    (push,) = [step["run"] for step in JOBS["deploy"]["steps"] if "git push" in step.get("run", "")]
    assert push.rstrip().endswith(f"git push --force origin {NOTEBOOKS}")
    up, down = [
        step["with"]
        for job in ("book", "deploy")
        for step in JOBS[job]["steps"]
        if step.get("with", {}).get("name") == NOTEBOOKS
    ]
    assert up["path"].endswith("/_sources/*.ipynb") and down == {"name": NOTEBOOKS}

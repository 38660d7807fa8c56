"""What stands around the code: the README holds what it promises, and the workflow that checks and
publishes is sound as far as that can be told without running it."""

import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
JOBS = WORKFLOW["jobs"]
STEPS = [step for job in JOBS.values() for step in job["steps"]]
README = (ROOT / "README.md").read_text()


def test_what_the_readme_links_exists():
    links = re.findall(r"\]\((?!https:|\.\./)([^)#]+)\)", README)
    assert ".github/first-page.png" in links
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_readme_promises_a_first_build_of_less_than_half_an_hour():
    assert "less than half an hour on two cores" in README
    cost = json.loads((ROOT / "vaenotes" / "report" / "results" / "cost_book.json").read_text())
    (row,) = [row for row in cost["rows"] if row["what"].startswith("from an empty store")]
    assert row["median"] < 30 and "2 cores" in cost["hardware"]


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

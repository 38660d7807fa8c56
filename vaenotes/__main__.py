"""The commands, `python -m vaenotes --help`: run an experiment, look after the store of trained
replicas, rebuild the book under other parameters.

An error is told in one line. The exit code is 0; 1 after an error; 2 after words that are no
command; 130 after an interrupt; of a build that fails, the build's.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaenotes import __version__
from vaenotes.errors import OneLine, ParameterError
from vaenotes.lab.store import SERVED, STATES, File, Store
from vaenotes.report.notebook import check_parameters, read_parameters

# What stands beside torch is imported by the commands that need it: the others answer at once.
if TYPE_CHECKING:
    from vaenotes.lab.summary import Interval

PROGRAM = "python -m vaenotes"


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # Words that come after an option argparse leaves over.
    if any(word.startswith("-") for word in rest) or (rest and "words" not in chosen):
        parser.error(f"unrecognized arguments: {shlex.join(rest)}")
    chosen.words = [*getattr(chosen, "words", []), *rest]
    try:
        code: int = chosen.command(chosen)
        sys.stdout.flush()
        return code
    except OneLine as error:
        return _failed(str(error), 1)
    except KeyboardInterrupt:
        return _failed("interrupted; the next run goes on from what is kept", 130)
    except BrokenPipeError:  # as of `| head`: Python would try to write once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _failed(line: str, code: int) -> int:
    print(f"{PROGRAM}: {line}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"vaenotes {__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    run = _add(commands, "run", run_experiment)
    run.add_argument("experiment", help="the name of its page; a wrong one lists them all")
    run.add_argument("--json", action="store_true", help="print JSON in place of tables")
    store = commands.add_parser("store", help="Look after the store of trained replicas.")
    actions = store.add_subparsers(metavar="action", required=True)
    for name, action in (("list", list_files), ("verify", verify), ("prune", prune)):
        _add(actions, name, action)
    book = _add(commands, "book", build_book)
    book.add_argument("--source", default="book", metavar="FOLDER", help="the pages' own: book")
    output = "for _build/html; if not given: the pages' own, or rerun if a parameter is changed"
    book.add_argument("--output", metavar="FOLDER", help=output)
    for one in (run, book):
        allowed = "profile, data, prior, seeds, first_seed or epochs, as in seeds=4"
        one.add_argument("words", nargs="*", metavar="name=value", help=allowed)
    return parser


def _add(
    to: Any, name: str, command: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    about = " ".join((command.__doc__ or "").split())
    added: argparse.ArgumentParser = to.add_parser(
        name, help=about, description=about, allow_abbrev=False
    )
    added.set_defaults(command=command)
    return added


def run_experiment(chosen: argparse.Namespace) -> int:
    """Run an experiment, or take it from the store; print what became of its replicas, and the
    findings."""
    settings = check_parameters(read_parameters(shlex.join(chosen.words)))
    from vaenotes.lab import summary
    from vaenotes.report import experiments

    with warnings.catch_warnings(record=True) as caught:
        outcome = experiments.experiment(settings, chosen.experiment)
    for warning in caught:
        print(f"{PROGRAM}: warning: {warning.message}", file=sys.stderr)
    rows = finding_rows(outcome.findings)
    if chosen.json:
        fates = {name: summary.counts(runs) for name, runs in outcome.runs.items()}
        about = {"experiment": chosen.experiment, "vaenotes": __version__}
        about |= {"parameters": asdict(settings), "replicas": fates, "findings": rows}
        print(json.dumps(about, indent=1, allow_nan=False))
        return 0
    print(f"{chosen.experiment}: {settings.changed or 'the default parameters'}\n")
    print(summary.outcomes_table(outcome.runs).to_string(), end="\n\n")
    width = max(map(len, rows))
    print(f"{'finding':{width}}  {'median or share':>15}  {'95% interval':24}  {'n':>3}  unit")
    for name, row in rows.items():
        value, low, high = (
            "-" if row[end] is None else f"{row[end]:.3g}" for end in ("value", "low", "high")
        )
        interval = f"{low} to {high}"
        print(f"{name:{width}}  {value:>15}  {interval:24}  {row['replicas']:3}  {row['unit']}")
    return 0


def finding_rows(findings: "Mapping[str, Interval]") -> dict[str, dict[str, Any]]:
    """Findings as JSON has them: value, low, high, replicas and unit; None where there is none."""
    from vaenotes.report.ledger import measure_of

    rows: dict[str, dict[str, Any]] = {}
    for name, interval in findings.items():
        numbers = interval._asdict().items()
        rows[name] = {key: number if math.isfinite(number) else None for key, number in numbers}
        rows[name]["unit"] = measure_of(name).unit
    return rows


def build_book(chosen: argparse.Namespace) -> int:
    """Build the book of this clone with jupyter-book, under the parameters that are given."""
    if not (Path(chosen.source) / "_ext" / "vaenotes_book.py").is_file():
        rule = "source must be the folder book of a clone of vaenotes"
        raise ParameterError(f"{rule}, got {chosen.source!r} in {os.getcwd()!r}")
    beside = str(Path(sys.executable).parent)
    if (program := shutil.which("jupyter-book", path=beside)) is None:
        raise OneLine(f"jupyter-book is not in {beside}: pip install -r requirements.txt")
    text = shlex.join(chosen.words) or os.environ.get("VAENOTES_PARAMETERS", "")
    settings = check_parameters(read_parameters(text))
    from vaenotes.report.experiments import check_arms

    check_arms(settings)
    command = [program, "build", chosen.source]
    if output := chosen.output or (settings.changed and "rerun"):
        command += ["--path-output", output]
    with subprocess.Popen(command, env=os.environ | {"VAENOTES_PARAMETERS": text}) as build:
        signal.signal(signal.SIGTERM, lambda *_: build.terminate())
        try:
            code = build.wait()
        except KeyboardInterrupt:  # which the build has had too, and now ends its kernels
            build.wait()
            raise
    return code if code >= 0 else 128 - code  # as a shell has it, of one that was killed


def list_files(chosen: argparse.Namespace) -> int:
    """Show every file: name, state, size, when it was written, and what it holds."""
    store = Store()
    files = list(store.files())
    for file in files:
        written = f"{datetime.fromtimestamp(file.path.stat().st_mtime):%Y-%m-%d %H:%M}"
        row = f"{file.path.name[:24]:24}  {file.state:18}  {file.size / 1e6:8.2f} MB  {written}"
        print(f"{row}  {described(file.facts)}".rstrip())
    return sum_up(store, files)


def verify(chosen: argparse.Namespace) -> int:
    """Read every file and compare it with its checksum; the exit code is 1 if one is damaged."""
    store = Store()
    return sum_up(store, store.files())


def prune(chosen: argparse.Namespace) -> int:
    """Delete what this version of the library never reads: old, damaged and half-written files."""
    store = Store()
    with store.locked(lambda: print("waiting for a process that trains", file=sys.stderr)):
        useless = [file for file in store.files() if file.state not in SERVED]
        for file in useless:
            file.path.unlink(missing_ok=True)
    print(f"deleted {len(useless)} files, {sum(file.size for file in useless) / 1e6:.1f} MB")
    return 0


def sum_up(store: Store, files: Iterable[File]) -> int:
    """Say how many files there are in each state; returns 1 if any is damaged."""
    count: Counter[str] = Counter()
    size: Counter[str] = Counter()
    for file in files:
        count[file.state] += 1
        size[file.state] += file.size
    print(f"{store.folder}: {count.total()} files")
    for state, meaning in STATES.items():
        if count[state]:
            print(f"{count[state]:6} {state}, {size[state] / 1e6:.1f} MB: {meaning}")
    return int(count["damaged"] > 0)


def described(facts: dict[str, Any]) -> str:
    """What an entry holds, in a few words."""
    if "keys" in facts:
        return f"{len(facts['keys'])} replicas after epoch {facts['epoch']}"
    if config := facts.get("config"):
        return ", ".join(f"{name} {config[name]}" for name in ("data", "prior", "seed", "epochs"))
    return ""


if __name__ == "__main__":
    sys.exit(main())

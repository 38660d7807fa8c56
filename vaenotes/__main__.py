"""python -m vaenotes store list|verify|prune: look after the store of trained replicas."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from vaenotes.errors import OneLine
from vaenotes.store import SERVED, STATES, File, Store


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m vaenotes")
    commands = parser.add_subparsers(metavar="command", required=True)
    store = commands.add_parser("store", help="look after the store of trained replicas")
    actions = store.add_subparsers(metavar="action", required=True)
    for name, action in (("list", list_files), ("verify", verify), ("prune", prune)):
        added = actions.add_parser(name, help=action.__doc__, description=action.__doc__)
        added.set_defaults(action=action)
    chosen = parser.parse_args(arguments)
    try:
        return chosen.action(Store())
    except OneLine as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1


def list_files(store: Store) -> int:
    """Show every file: name, state, size, when it was written, and what it holds."""
    files = list(store.files())
    for file in files:
        written = f"{datetime.fromtimestamp(file.path.stat().st_mtime):%Y-%m-%d %H:%M}"
        row = f"{file.path.name[:24]:24}  {file.state:18}  {file.size / 1e6:8.2f} MB  {written}"
        print(f"{row}  {described(file.facts)}".rstrip())
    return sum_up(store, files)


def verify(store: Store) -> int:
    """Read every file and compare it with its checksum; the exit code is 1 if one is damaged."""
    return sum_up(store, store.files())


def prune(store: Store) -> int:
    """Delete what this version of the library never reads: old, damaged and half-written files."""
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

"""How fast sprites are drawn.

taskset -c 0 python benchmarks/rendering.py
"""

import numpy as np
from measuring import Row, cpu_seconds, in_turns, report

from vaenotes.data import sprites

ROUNDS, IMAGES = 9, 100_000


def main() -> None:
    rng = np.random.default_rng(0)
    indices = np.column_stack([rng.integers(count, size=IMAGES) for count in sprites.COUNTS])
    found = in_turns(
        {
            size: lambda size=size: IMAGES / cpu_seconds(lambda: sprites.render(indices, size))
            for size in (16, 32, 64)
        },
        ROUNDS,
    )
    rows = [
        Row.of(f"{size} x {size}", "sprites / s", rates, ">= 100000" if size == 32 else "")
        for size, rates in found.items()
    ]
    report("rendering", f"One core; {IMAGES:,} sprites drawn from their indices.", rows)


if __name__ == "__main__":
    main()

"""Tests compute with one thread each: tensors are small, and where others compute too, threads
would mostly wait for each other, busily."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

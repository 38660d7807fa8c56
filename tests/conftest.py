"""Tests compute with one thread each: tensors are small, and where others compute too, threads
would mostly wait for each other, busily."""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as of what a shell starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)  # some tests interrupt

"""How does a child not outlive `tidemark up`, even one that is killed?

A program of its own, `leash.py PARENT PROGRAM ARGUMENT...`: it asks the kernel for a SIGTERM when the parent
ends, and then becomes the program; the kernel keeps to it over `exec`. Not a `preexec_fn`: that runs Python in
a fork of a process with threads, where any lock may be held for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1
"""Of prctl(2). The signal comes when the thread that started us ends: the supervisor's main thread."""


def main() -> None:
    """Become the program. Ends with a line on standard error when that is not possible."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("tidemark: the supervisor ended before its child began")
    try:
        os.execv(program[0], program)
    except OSError as error:
        sys.exit(f"tidemark: cannot run {program[0]}: {error.strerror}; install Tidemark anew")


if __name__ == "__main__":
    main()

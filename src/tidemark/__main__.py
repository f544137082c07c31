"""`python -m tidemark`, and the console script: how does the command begin?"""

import signal


def entry() -> None:
    """Load the command line, which takes a while, and run it."""
    # Ctrl-C ends what has nothing to stop yet; Python's own way prints where it was.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from tidemark.cli import main

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main(prog_name="tidemark")


if __name__ == "__main__":
    entry()

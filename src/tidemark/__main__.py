"""`python -m tidemark`."""

from tidemark.cli import entry

entry()

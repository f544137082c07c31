"""Whose fault is it, and what to do about it?

One tree of errors. Foreign exceptions (of NATS, ClickHouse, the sockets) are translated once, at the
edge where they are met. The message of each is one line that says what happened and what to do next:
it is printed as it stands.
"""


class TidemarkError(Exception):
    """Anything that Tidemark itself reports; `str()` is one line for a person. The exit status is 1."""


class CallerError(TidemarkError):
    """The caller's: a wrong flag, setting or request. Nothing was started; the exit status is 2."""


class UpstreamError(TidemarkError):
    """The Mockstagram API's: unreachable, slow or not speaking its own protocol."""


class LogError(TidemarkError):
    """The log's (NATS JetStream): unreachable, full, or carrying what is not ours."""


class StoreError(TidemarkError):
    """The store's (ClickHouse): unreachable, full, locked or refusing a statement."""


class StoreInUseError(StoreError):
    """Another process has the folder of the embedded store open."""

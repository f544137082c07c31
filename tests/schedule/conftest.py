"""A NATS server for each test that asks for one."""

from tests.log.conftest import nats_server

__all__ = ["nats_server"]

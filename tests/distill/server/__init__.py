"""A server of the project's own that speaks OpenAI's API on loopback and misbehaves on order."""

from tests.distill.server.harness import Fault, Served, Server, running

__all__ = ["Fault", "Served", "Server", "running"]

"""The commands. Each says what it does, shows an example, and ends with 0 (fine), 1 (failed) or 2 (misused)."""

from gateway.cli.main import main

__all__ = ["main"]

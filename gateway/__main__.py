"""``python -m gateway``: the same as the ``avara-gateway`` command."""

from gateway.cli import main

main()

"""What the tests of faults share: one hospital, whose gateway runs in a process of its own."""

from __future__ import annotations

import pytest

from .hospital import Hospital


@pytest.fixture(scope="session")
async def hospital(tmp_path_factory):
    async with Hospital(tmp_path_factory.mktemp("hospital")) as made:
        await made.gateway.start()
        yield made

"""What the tests of faults share: one hospital, whose gateway runs in a process of its own."""

from __future__ import annotations

import pytest

from .hospital import Hospital


@pytest.fixture(scope="session")
async def hospital(tmp_path_factory):
    async with Hospital(tmp_path_factory.mktemp("hospital")) as made:
        await made.gateway.start()
        yield made


@pytest.fixture(scope="session")
async def patient_hospital(tmp_path_factory):
    """One whose gateway waits for a silent PACS for as long as the configuration has it by itself."""
    async with Hospital(tmp_path_factory.mktemp("patient"), hasty=False) as made:
        await made.gateway.start()
        yield made

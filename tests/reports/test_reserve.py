"""A report's PDF is its job's before it is in the store: nobody removes it in between."""

from __future__ import annotations

import hashlib

import pytest

from gateway.journal import jobs, objects
from gateway.journal.objects import BeingRemoved
from gateway.reports import ReportFetcher
from gateway.reports.jobs import FETCH, FetchReport

PDF = b"%PDF-1.7 of a report"


class Store:
    """Says who needed what when it was put."""

    def __init__(self, journal):
        self.journal = journal
        self.users = []

    async def put(self, key, content, *, content_type):
        self.users.append(await self.journal.run(lambda c: objects.user_of(c, key)))


@pytest.fixture
async def job(journal):
    payload = FetchReport("rep_1", "stu_1", "1.2.3", False, 0.0, url="https://avara.example/x")
    return (await journal.run(lambda c: jobs.add(c, FETCH, "rep_1", payload)))[0]


def fetcher(journal, store):
    async def download(url):
        return PDF

    return ReportFetcher(
        journal=journal, objects=store, download=download, ask_again=None, inquiry=None, pacs=[], destinations={},
        channels=[], keep_for=0, keep_texts_for=0, added=lambda: None,
    )  # fmt: skip


async def test_a_pdf_is_its_jobs_before_it_is_put(journal, job):
    store = Store(journal)
    step = await fetcher(journal, store)(job)
    assert store.users == [job.id]
    assert step.payload.sha256 == hashlib.sha256(PDF).hexdigest()


async def test_while_an_older_copy_is_being_removed_nothing_is_put(journal, job):
    store = Store(journal)
    key = (await fetcher(journal, store)(job)).payload.key

    def begin(c):
        objects.release(c, job.id)
        objects.claim(c, job.id, key)

    await journal.run(begin)
    with pytest.raises(BeingRemoved) as raised:
        await fetcher(journal, store)(job)
    assert raised.value.transient
    assert store.users == [job.id]
    await journal.run(lambda c: objects.removed(c, key))
    assert (await fetcher(journal, store)(job)).payload.key == key

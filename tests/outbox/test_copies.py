"""What was put a moment ago is at hand: the store is asked for what is not, and nothing is kept for long."""

import asyncio

import pytest

from gateway.dicom import file_header
from gateway.objects import AtHand, at_hand
from gateway.outbox.copies import Copies
from gateway.runtime import Spools

SYNTAX = "1.2.840.10008.1.2.1"
DATA = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 192"
CONTENT = file_header("1.2.840.10008.5.1.4.1.1.7", "1.2.3", SYNTAX) + DATA


class Store:
    """What AtHand needs of one; it counts what it is asked for."""

    def __init__(self):
        self.objects, self.asked = {}, []

    async def put(self, key, content, *, content_type):
        self.objects[key] = content

    async def get(self, key):
        self.asked.append(key)
        return self.objects[key]


@pytest.fixture
def store():
    return Store()


async def test_what_was_put_is_not_asked_of_the_store_and_lies_in_it(store):
    here = AtHand(store)
    await here.put("a", b"one", content_type="text/plain")
    assert await here.get("a") == b"one"
    assert store.asked == []
    assert store.objects == {"a": b"one"}


async def test_what_the_store_did_not_take_is_not_at_hand(store):
    async def full(key, content, *, content_type):
        raise OSError("full")

    store.put = full
    here = AtHand(store)
    with pytest.raises(OSError, match="full"):
        await here.put("a", b"one", content_type="text/plain")
    assert here.held("a") is None


async def test_after_a_while_the_store_is_asked(store, monkeypatch):
    monkeypatch.setattr(at_hand, "KEPT_FOR", 0.01)
    here = AtHand(store)
    await here.put("a", b"one", content_type="text/plain")
    await asyncio.sleep(0.05)
    assert here.held("a") is None
    assert await here.get("a") == b"one"
    assert store.asked == ["a"]


async def test_no_more_is_at_hand_than_it_may_be(store, monkeypatch):
    monkeypatch.setattr(at_hand, "MOST", 10)
    here = AtHand(store)
    for key in ("a", "b", "c"):
        await here.put(key, b"four", content_type="text/plain")
    assert [here.held(key) is not None for key in ("a", "b", "c")] == [True, True, False]
    here.drop("a")
    await here.put("c", b"four", content_type="text/plain")
    assert here.held("c") == b"four"
    await here.put("c", b"another", content_type="text/plain")  # too large beside the other one
    assert here.held("c") is None
    assert await here.get("c") == b"another"


async def test_a_copy_at_hand_is_the_same_data_set_and_the_same_file_as_one_from_the_store(store, tmp_path):
    spools = Spools(tmp_path, keeps_free=0)
    copies = Copies(store, spools)
    await copies.put("a", CONTENT)
    with await copies.get("a") as copy:
        body = copy.body()
        assert (body.size, body.read(0, 1000)) == (len(DATA), DATA)
        body.close()
        file = await copy.file()
        file.seek(0)
        assert file.read() == CONTENT
        again = copy.body()
        assert again.read(0, 1000) == DATA
        again.close()
    assert spools.taken == 0

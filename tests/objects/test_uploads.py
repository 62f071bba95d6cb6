"""How much may be uploaded: by one URL, and with how much room on the disk."""

from __future__ import annotations

from gateway.objects.uploads import UPLOADS, UploadQuota


class Clock:
    def __init__(self):
        self.time = 0.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds


def test_a_url_has_its_uploads_and_no_more_until_it_has_ended():
    clock = Clock()
    quota = UploadQuota(keep_for=900, clock=clock)
    assert [quota.take("a", 1) for _ in range(UPLOADS + 1)] == [True] * UPLOADS + [False]
    assert quota.take("b", 1)
    clock.time = 901
    assert quota.take("a", 1)


def test_uploads_under_way_count_against_the_room_that_is_left():
    free = 100
    quota = UploadQuota(keep_for=900, free=lambda: free)
    assert quota.has_room(100)
    assert not quota.has_room(101)
    quota.take("a", 60)
    assert quota.has_room(40)
    assert not quota.has_room(41)
    quota.end("a", 60, stored=False)
    assert quota.has_room(100)

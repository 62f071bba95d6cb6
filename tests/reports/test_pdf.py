"""Whether a report's PDF opens: three outcomes, whatever a stranger sends, and an end to each. The program that opens
it is run for real; what it does to a mutated PDF is tried in this process, many times. Not here: what a PDF says."""

from __future__ import annotations

import asyncio
import io
import json
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypdf import PdfWriter

from gateway.reports.pdf import check as pdf
from gateway.reports.pdf.check import Broken, Encrypted, NotChecked, PdfFacts, check_pdf
from gateway.reports.pdf.reader import read
from gateway.reports.pdf.warm import WarmPython

pytestmark = pytest.mark.slow


def a_pdf(pages=1, password=None):
    writer = PdfWriter()
    for _ in range(pages):
        writer.add_blank_page(width=595, height=842)
    if password is not None:
        writer.encrypt(user_password=password, algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def by_hand(*objects, root=1, size=None):
    """A PDF of these objects, numbered from 1, with a cross-reference table."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for n, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (n, body)
    xref = len(out)
    count = len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n" % count
    out += b"".join(b"%010d 00000 n \n" % o for o in offsets)
    out += b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size or count, root, xref)
    return bytes(out)


CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
PAGE = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 10 10] >>"


@pytest.mark.parametrize("pages", [1, 3])
async def test_a_pdf_that_opens_tells_its_pages(pages):
    assert await check_pdf(a_pdf(pages)) == PdfFacts(pages)


async def test_what_surrounds_a_pdf_in_practice_is_borne():
    assert await check_pdf(b"\xef\xbb\xbf\r\n" + a_pdf() + b"\r\n" * 20) == PdfFacts(1)


async def test_an_encrypted_pdf_is_told_apart():
    with pytest.raises(Encrypted, match="without a password"):
        await check_pdf(a_pdf(password="secret"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "does not begin"),
        (b"<html>403</html>", "does not begin"),
        (b" " * 2000 + a_pdf(), "does not begin"),
        (a_pdf()[:-10], "cut off"),
        (b"%PDF-1.7\n%%EOF", "opened"),
        (by_hand(CATALOG, b"<< /Type /Pages /Kids [] /Count 0 >>"), "no pages"),
        (by_hand(CATALOG), "."),
        (by_hand(b"<< >>"), "opened"),
        (by_hand(b"3"), "opened"),
    ],
)
async def test_what_is_no_pdf_is_broken_and_the_reason_is_in_words(content, said):
    with pytest.raises(Broken, match=said):
        await check_pdf(content)


def bombs():
    twice = zlib.compress(zlib.compress(bytes(150_000_000), 9), 9)
    stream = (
        b"<< /Type /ObjStm /N 100000000 /First 8 /Filter [/FlateDecode /FlateDecode] /Length %d >>\n"
        b"stream\n%b\nendstream"
    )
    yield "a stream that inflates to 150 MB", by_hand(CATALOG, stream % (len(twice), twice))
    xref = b"<< /Type /XRef /W [1 4 4] /Size 100000000 /Root 1 0 R /Filter [/FlateDecode /FlateDecode] /Length %d >>"
    at = (
        b"%PDF-1.7\n1 0 obj\n" + xref % len(twice) + b"\nstream\n" + twice + b"\nendstream\nendobj\nstartxref\n9\n%%EOF"
    )
    yield "a cross-reference stream that does", at
    yield "a page tree that is its own kid", by_hand(CATALOG, b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>")
    kids = b"<< /Type /Pages /Kids [" + b"4 0 R " * 30 + b"] /Count 30 >>"
    deep = [CATALOG, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"]
    deep += [kids.replace(b"4 0 R", b"%d 0 R" % (n + 1)) for n in range(3, 40)]
    yield "a page tree of 30 to the 37th pages", by_hand(*deep, PAGE)
    tree = [CATALOG] + [b"<< /Type /Pages /Kids [%d 0 R] /Count 1 >>" % (n + 1) for n in range(2, 5000)]
    yield "a page tree 5,000 deep", by_hand(*tree, PAGE)
    yield "arrays 100,000 deep", by_hand(b"<< /Type /Catalog /Pages " + b"[" * 100_000 + b"]" * 100_000 + b" >>")
    yield "dictionaries 100,000 deep", by_hand(b"<< /Type /Catalog /Pages " + b"<< /A " * 100_000 + b">>" * 100_000)
    yield "a reference to itself", by_hand(b"1 0 R", b"2 0 R")
    loop = b"%PDF-1.7\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 /Root 1 0 R /Prev 9 >>\nstartxref\n9\n%%EOF"
    yield "a cross-reference table before itself", loop
    yield "a table of a billion entries", loop.replace(b"0 1\n", b"0 1000000000\n").replace(b"/Prev 9", b"")
    yield "a size of a billion", by_hand(b"3", b"4", size=1_000_000_000)
    yield "300,000 objects without a table", b"%PDF-1.7\n" + b"1 0 obj\n<< >>\nendobj\n" * 300_000 + b"%%EOF"
    yield "a number of a million digits", by_hand(b"<< /Type /Catalog /Pages " + b"9" * 1_000_000 + b" 0 R >>")
    yield "an open string of 20 MB", by_hand(b"<< /Type /Catalog /Pages (" + b"(" * 20_000_000)


BOMBS = dict(bombs())


@pytest.mark.parametrize(("name", "content"), list(BOMBS.items()), ids=list(BOMBS))
async def test_a_hostile_pdf_comes_to_an_end_and_takes_no_memory_of_ours(name, content):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    with pytest.raises(Broken):
        await check_pdf(content)
    assert time.monotonic() - began < pdf.WITHIN
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # KiB


async def test_the_gateway_answers_while_a_hostile_pdf_is_looked_at():
    longest = 0.0

    async def ticks():
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    ticking = asyncio.create_task(ticks())
    with pytest.raises(Broken):
        await check_pdf(b"%PDF-1.7\n" + b"1 0 obj\n<< >>\nendobj\n" * 100_000 + b"%%EOF")
    ticking.cancel()
    assert longest < 2


PLAIN = a_pdf(2)

WORDS = [
    b"1 0 R", b"2 0 R", b"3 0 R",
    b"/Kids", b"/Pages", b"/Count", b"/Encrypt", b"/Prev 0", b"99999999", b"-1", b"[", b"<<",
    b">>", b"(", b"stream\n", b"endobj", b"/XRef", b"/W [1 2 1]", b"xref\n0 9999\n", b"null", b"/Filter /LZW",
]  # fmt: skip


@st.composite
def mutated(draw):
    content = bytearray(PLAIN)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(content)))
        end = min(len(content), at + draw(st.integers(0, 40)))
        content[at:end] = draw(st.one_of(st.binary(max_size=20), st.sampled_from(WORDS)))
    return bytes(content)


@settings(max_examples=400, deadline=20_000, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_a_mutated_pdf_has_one_of_the_three_outcomes(content):
    found = read(content)
    assert len(found) == 1
    ((name, value),) = found.items()
    assert (name == "pages" and value > 0) or (name == "encrypted" and value) or (name == "broken" and value)


@settings(max_examples=100, deadline=20_000)
@given(st.binary(max_size=300))
def test_any_bytes_have_one_of_the_three_outcomes(tail):
    found = read(b"%PDF-1.7\n" + tail + b"\n%%EOF")
    assert set(found) < {"pages", "encrypted", "broken"}


async def test_a_machine_that_cannot_look_says_so_and_it_is_tried_again(monkeypatch, tmp_path):
    for program in ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit(1)"):
        (tmp_path / "reader.py").write_text(program)
        monkeypatch.setattr(pdf, "_READER", str(tmp_path / "reader.py"))
        with pytest.raises(NotChecked, match="memory"):
            await check_pdf(PLAIN)
    monkeypatch.setattr(pdf, "WITHIN", 0.5)
    (tmp_path / "reader.py").write_text("import time; time.sleep(60)")
    with pytest.raises(NotChecked, match="overloaded"):
        await check_pdf(PLAIN)
    monkeypatch.setattr(pdf, "_READERS", WarmPython())
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(NotChecked, match="starts no process"):
        await check_pdf(PLAIN)
    assert NotChecked.transient
    assert not Broken.transient


@pytest.mark.parametrize("signal_name", ["SIGXCPU", "SIGSEGV"])
async def test_what_ends_the_reader_by_its_content_is_broken(monkeypatch, tmp_path, signal_name):
    (tmp_path / "reader.py").write_text(f"import os, signal; os.kill(os.getpid(), signal.{signal_name})")
    monkeypatch.setattr(pdf, "_READER", str(tmp_path / "reader.py"))
    with pytest.raises(Broken):
        await check_pdf(PLAIN)


def test_the_reader_has_its_limits():
    shown = subprocess.run(
        [
            sys.executable, "-c",
            "import resource, sys; from gateway.reports.pdf import reader as r\n"
            "r.read = lambda content: [resource.getrlimit(k)[0] for k in (resource.RLIMIT_AS, resource.RLIMIT_CPU)]\n"
            "r.main()",
        ],
        input=b"", capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert shown == b"[1000000000, 10]"


async def test_what_readers_are_forked_from_is_started_again_when_it_was_killed():
    warm = WarmPython()
    reader = str(Path(pdf.__file__).with_name("reader.py"))
    try:
        assert await warm.run(reader, PLAIN) == (0, b'{"pages": 2}')
        warm._process.kill()
        warm._process.wait()
        assert await warm.run(reader, PLAIN) == (0, b'{"pages": 2}')
    finally:
        warm.close()


async def test_a_reader_that_nobody_waits_for_is_killed(tmp_path):
    warm, pid = WarmPython(), tmp_path / "pid"
    program = tmp_path / "reader.py"
    program.write_text(f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)")
    try:
        waiting = asyncio.create_task(warm.run(str(program), PLAIN))
        async with asyncio.timeout(20):
            while not pid.exists() or not pid.read_text():
                await asyncio.sleep(0.01)
        waiting.cancel()
        async with asyncio.timeout(10):
            while Path(f"/proc/{pid.read_text()}").exists():
                await asyncio.sleep(0.05)
    finally:
        warm.close()


async def test_a_reader_has_nothing_of_the_gateways(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "x")
    program = tmp_path / "reader.py"
    program.write_text(
        "import json, os, sys\n"
        "paths = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd') if int(fd) > 2]\n"
        "print(json.dumps([dict(os.environ), [m for m in sys.modules if m.startswith('gateway')],\n"
        "      [os.readlink(path) for path in paths if os.path.exists(path)]]))"
    )
    warm = WarmPython()
    try:
        code, said = await warm.run(str(program), PLAIN)
    finally:
        warm.close()
    assert code == 0
    environment, modules, files = json.loads(said)
    assert "SECRET" not in environment
    assert (modules, files) == ([], [])

"""PDFs as hospitals and their tools make them: what a viewer opens without asking is delivered, what is cut or asks is
not. All are generated here. Not here: hostile ones (tests/reports/test_pdf.py)."""

from __future__ import annotations

import io

import pikepdf
import pytest
from pypdf import PdfReader, PdfWriter

from gateway.demo.sample import small_pdf
from gateway.reports.pdf.check import Broken, Encrypted, PdfFacts, check_pdf

PLAIN = small_pdf("A report")


def saved(pdf, **options):
    out = io.BytesIO()
    pdf.save(out, **options)
    return out.getvalue()


def encrypted(owner, user, **options):
    return saved(pikepdf.open(io.BytesIO(PLAIN)), encryption=pikepdf.Encryption(owner=owner, user=user, **options))


def by_pypdf(algorithm):
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(PLAIN)))
    writer.encrypt(user_password="", owner_password="owner", algorithm=algorithm)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def with_encrypted_attachments(stream="/Identity", string="/Identity"):
    """Encrypted for embedded files only (ISO 32000-1 §7.6.5, EFF), by a password that nobody here knows."""
    handler = (
        b"<< /Filter /Standard /V 4 /R 4 /Length 128 /P -4 /EncryptMetadata false /O <%b> /U <%b> "
        b"/CF << /StdCF << /AuthEvent /EFOpen /CFM /AESV2 /Length 16 >> >> "
        b"/StmF %b /StrF %b /EFF /StdCF >>" % (b"5a" * 32, b"a5" * 32, stream.encode(), string.encode())
    )
    bodies = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        handler,
    ]
    out, offsets = bytearray(b"%PDF-1.6\n"), []
    for n, body in enumerate(bodies, start=1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (n, body)
    at = len(out)
    out += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % o for o in offsets)
    out += b"trailer\n<< /Size 5 /Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>] >>\nstartxref\n%d\n%%%%EOF\n" % at
    return bytes(out)


def updated(content):
    """With an incremental update (§7.5.6) behind it."""
    at, root = content.rindex(b"startxref"), PdfReader(io.BytesIO(content)).trailer.raw_get("/Root").idnum
    before = int(content[at:].split()[1])
    out = bytearray(content)
    place = len(out)
    out += b"99 0 obj\n<< /Producer (x) >>\nendobj\n"
    table = len(out)
    out += b"xref\n99 1\n%010d 00000 n \ntrailer\n<< /Size 100 /Root %d 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n" % (
        place, root, before, table,
    )  # fmt: skip
    return bytes(out)


LINEARIZED = saved(pikepdf.open(io.BytesIO(PLAIN)), linearize=True)

OPENS = {
    "1,500 NULs behind the end": PLAIN + b"\0" * 1500,
    "NULs behind the end of an encrypted one": encrypted("owner", "", R=6) + b"\0" * 1500,
    "owner password only, RC4 of 40 bits": by_pypdf("RC4-40"),
    "owner password only, RC4 of 128 bits": by_pypdf("RC4-128"),
    "owner password only, AES of 256 bits, by pypdf": by_pypdf("AES-256"),
    "owner password only, AES of 128 bits": encrypted("owner", "", R=4, aes=True),
    "owner password only, AES of 256 bits": encrypted("owner", "", R=6),
    "owner password only, metadata in the clear": encrypted("owner", "", R=6, metadata=False),
    "no password at all, but encrypted": encrypted("", "", R=6),
    "an encrypted attachment only": with_encrypted_attachments(),
    "5,000 blanks behind the end": PLAIN + b" " * 5000,
    "line ends behind the end": PLAIN + b"\r\n" * 3000,
    "a mail gateway's HTML behind the end": PLAIN + b"<!-- scanned -->" * 200,
    "an incremental update": updated(PLAIN),
    "linearized": LINEARIZED,
    "linearized, and updated": updated(LINEARIZED),
    "no %%EOF, but everything else": PLAIN[: PLAIN.rindex(b"%%EOF")],
    "half of %%EOF": PLAIN[: PLAIN.rindex(b"%%EOF") + 3],
    "object and cross-reference streams": saved(
        pikepdf.open(io.BytesIO(PLAIN)), object_stream_mode=pikepdf.ObjectStreamMode.generate
    ),
    "a cross-reference table that is off": PLAIN.replace(b"startxref\n", b"startxref\n9"),
    "bytes before the header": b"\0" * 200 + PLAIN,
}


@pytest.mark.parametrize("content", list(OPENS.values()), ids=list(OPENS))
async def test_what_a_viewer_opens_without_asking_is_a_report(content):
    assert await check_pdf(content) == PdfFacts(1)


async def test_what_pypdf_does_not_open_is_not_broken_where_qpdf_opens_it():
    assert await check_pdf(OPENS["owner password only, AES of 256 bits"]) == PdfFacts(1)
    # A number that pypdf cannot read, in an object that its page tree leads through.
    odd = PLAIN.replace(b"/Count 1", b"/Count 1" + b" /X <0g>")
    assert await check_pdf(odd) == PdfFacts(1)


ASKS = {
    "a user's password": encrypted("owner", "user", R=6),
    "a user's password, RC4": encrypted("owner", "user", R=3, aes=False, metadata=False),
    "streams encrypted, too": with_encrypted_attachments(stream="/StdCF"),
    "strings encrypted, too": with_encrypted_attachments(string="/StdCF"),
}


@pytest.mark.parametrize("content", list(ASKS.values()), ids=list(ASKS))
async def test_what_asks_for_a_password_is_told_apart(content):
    with pytest.raises(Encrypted):
        await check_pdf(content)


CUT = {
    "plain": PLAIN,
    "updated": updated(PLAIN),
    "linearized": LINEARIZED,
    "with padding": PLAIN[: PLAIN.rindex(b"startxref")] + b"\0" * 2000,
}


@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("content", list(CUT.values()), ids=list(CUT))
async def test_what_lacks_its_end_is_never_a_report(content, part):
    if content is CUT["updated"]:  # cut within its update: before it, it is whole
        content, part = content, (len(PLAIN) + part * (len(content) - len(PLAIN) - 40)) / len(content)
    with pytest.raises(Broken, match="cut off"):
        await check_pdf(content[: int(len(content) * part)])

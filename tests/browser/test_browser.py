"""What a radiologist's browser does with the URLs: headless Chromium, on a page of another origin.

Both ways that a hospital can run it: the embedded store behind the gateway's own name, and a store of its own.
"""

from __future__ import annotations

import asyncio
import html
import json
import re
import shutil
from urllib.parse import quote

import pytest
from aiohttp import web

from gateway.demo.sample import sample_study

pytestmark = pytest.mark.slow

PAGE = """<!doctype html><title>viewer</title><pre id=out></pre><script>
const url = decodeURIComponent(location.hash.slice(1));
async function main() {
  const out = {};
  const whole = await fetch(url);
  out.status = whole.status;
  const bytes = new Uint8Array(await whole.arrayBuffer());
  out.size = bytes.length;
  out.magic = String.fromCharCode(...bytes.slice(128, 132));
  const part = await fetch(url, {headers: {Range: 'bytes=128-131'}});
  out.partStatus = part.status;
  out.part = await part.text();
  out.range = part.headers.get('Content-Range');
  const head = await fetch(url, {method: 'HEAD', cache: 'no-store'}).then(r => r.status, e => 'blocked');
  out.head = head;
  out.altered = await fetch(url.slice(0, -1) + (url.endsWith('0') ? '1' : '0')).then(r => r.status, e => 'blocked');
  return out;
}
main().then(o => o, e => ({error: String(e)})).then(o => {
  document.getElementById('out').textContent = JSON.stringify(o);
  document.title = 'done';
});
</script>"""


@pytest.fixture
async def viewer():
    """A web origin that is not the gateway's."""

    async def page(request):
        return web.Response(text=PAGE, content_type="text/html")

    application = web.Application()
    application.router.add_get("/", page)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://localhost:{runner.addresses[0][1]}"
    await runner.cleanup()


async def open_in_chromium(page, profile):
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "chromium is installed by `make test`"
    process = await asyncio.create_subprocess_exec(
        program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-extensions", f"--user-data-dir={profile}",
        "--virtual-time-budget=20000", "--dump-dom", page, stdout=-1, stderr=-3,
    )  # fmt: skip
    dom, _ = await asyncio.wait_for(process.communicate(), 90)
    [result] = re.findall(r"<pre id=\"out\">(.*?)</pre>", dom.decode(), re.S)
    return json.loads(html.unescape(result))


@pytest.mark.parametrize("where", ["embedded", "s3"])
async def test_a_page_of_another_origin_reads_an_instance_and_ranges_of_it(orthanc, start, viewer, where, tmp_path):
    study, sample = sample_study()
    await orthanc.add(*(i.content for i in sample))
    options = {"store": {"bucket": "dicom"}, "cache": {"min_free": "0"}} if where == "embedded" else {}
    gateway = await start(orthanc, **options)
    answer = await gateway.ask(study)
    size = len(await gateway.open(answer["urls"][0]))
    seen = await open_in_chromium(f"{viewer}/#{quote(answer['urls'][0], safe='')}", tmp_path / "profile")
    assert seen == {
        "status": 200,
        "size": size,
        "magic": "DICM",
        "partStatus": 206,
        "part": "DICM",
        "range": f"bytes 128-131/{size}",
        "head": 403,  # a URL is signed for GET alone
        "altered": 403,
    }

"""What viewers are made of: cornerstone's DICOM image loader, on a page of another web origin than the gateway's."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from tests.rig.chromium import Tab, chromium, program
from tests.rig.npm import NotToBeHad, fetched

SCRIPTS = {
    "core.js": ("cornerstone-core", "dist/cornerstone.min.js"),
    "parser.js": ("dicom-parser", "dist/dicomParser.min.js"),
    "loader.js": ("cornerstone-wado-image-loader", "dist/cornerstoneWADOImageLoaderNoWebWorkers.bundle.min.js"),
}

PAGE = """<!doctype html><title>viewer</title><body style="margin:0;background:black">
<div id="view" style="width:512px;height:512px"></div>
<script src="core.js"></script><script src="parser.js"></script><script src="loader.js"></script><script>
const loader = cornerstoneWADOImageLoader;
loader.external.cornerstone = cornerstone;
loader.external.dicomParser = dicomParser;
const view = document.getElementById('view');
cornerstone.enable(view);
async function draw(image) {
  const drawn = new Promise(done => view.addEventListener('cornerstoneimagerendered', done, {once: true}));
  cornerstone.displayImage(view, image);
  await drawn;
}
async function show(url) {
  const image = await cornerstone.loadAndCacheImage('wadouri:' + url);
  await draw(image);
  const canvas = view.querySelector('canvas');
  const shown = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
  const tones = new Set(shown.filter((_, n) => n % 4 === 0));
  return {rows: image.rows, columns: image.columns, pixels: Array.from(image.getPixelData()), tones: tones.size};
}
async function read(urls) {
  const began = performance.now(), seconds = () => (performance.now() - began) / 1000;
  let first = null;
  await Promise.all(urls.map(async (url, n) => {
    const image = await cornerstone.loadImage('wadouri:' + url);
    if (n === 0) { await draw(image); first = seconds(); }
  }));
  return {first: first, all: seconds()};
}
</script>"""


@asynccontextmanager
async def viewer(directory: Path) -> AsyncIterator[Tab]:
    """A tab in which ``show(url)`` gives the pixels of an instance, and ``read(urls)`` opens a whole study as a viewer
    does, all at once, and gives the seconds until its first image was drawn and until all were read. *directory* is
    for the browser's profile. Raises NotToBeHad."""
    if program() is None:
        raise NotToBeHad("no chromium to show it in (Debian: chromium)")
    files = {name: (fetched(of) / path).read_bytes() for name, (of, path) in SCRIPTS.items()}

    async def file(request: web.Request) -> web.Response:
        content = files.get(request.match_info["name"], PAGE.encode())
        kind = "text/javascript" if request.match_info["name"] else "text/html"
        return web.Response(body=content, content_type=kind)

    application = web.Application()
    application.router.add_get("/{name:.*}", file)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with chromium(directory / "chromium") as tab:
            await tab.open(f"http://localhost:{runner.addresses[0][1]}/")
            await tab.until("typeof show === 'function'")
            yield tab
    finally:
        await runner.cleanup()

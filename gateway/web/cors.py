"""Cross-origin requests: which web pages may read what is served (WHATWG Fetch)."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

METHODS = ("GET", "HEAD", "PUT")


class Cors:
    """Which web origins' pages may read the answers (WHATWG Fetch, CORS protocol).

    Without credentials: the URL itself is the permission, and a page can do no more with it than its holder.
    """

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origins)

    def headers(self, origin: str | None) -> dict[str, str]:
        """What goes onto every answer to a page of *origin*."""
        if origin is None or not (self._any or origin in self._origins):
            return {}
        return {
            "Access-Control-Allow-Origin": "*" if self._any else origin,
            "Access-Control-Expose-Headers": "Content-Range, Content-Length, Accept-Ranges, ETag",
            **({} if self._any else {"Vary": "Origin"}),
        }

    def preflight(self, request: web.Request, methods: Sequence[str] = METHODS) -> web.Response:
        """The answer to a preflight request. It also admits a public page to a private address where a browser asks."""
        allowed = self.headers(request.headers.get("Origin"))
        if not allowed:
            return web.Response(status=403)
        allowed["Access-Control-Allow-Methods"] = ", ".join(methods)
        allowed["Access-Control-Allow-Headers"] = request.headers.get("Access-Control-Request-Headers", "")[:500]
        allowed["Access-Control-Max-Age"] = "3600"
        if request.headers.get("Access-Control-Request-Private-Network") == "true":
            allowed["Access-Control-Allow-Private-Network"] = "true"
        return web.Response(status=204, headers=allowed)

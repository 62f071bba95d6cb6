"""Serves the page, on an address of its own: who may see it, and what a browser may do with it."""

from __future__ import annotations

import asyncio
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp_jinja2
import jinja2
from aiohttp import web

from gateway.config import is_loopback
from gateway.journal import JournalError
from gateway.page import words
from gateway.page.acts import Login, OnLogin
from gateway.page.visitors import NotNow, Visitor, Visitors
from gateway.web import Bounds, Busy, Clients, Cors, TooSlow, WebServer, gone

log = logging.getLogger(__name__)

CONNECTIONS = 64
"""Connections that are taken at once."""

DRAIN = 1.0
"""Seconds that open requests have to end at shutdown."""

MAX_FORM = 16 * 1024
"""Bytes of a form."""

FORM_WITHIN = 10.0
"""Seconds for its way."""

COOKIE = "avara-gateway-session"

HEADERS = {
    # Nothing from elsewhere, nothing inline, in nobody's frame.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer, by which browsers send a form with "Origin: null".
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}

VISITOR = web.RequestKey("visitor", Visitor)

FORM: web.RequestKey[dict[str, str]] = web.RequestKey("form", dict)
"""What was sent with it."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HERE = Path(__file__).parent


class PageServer:
    """The page's listener, with what guards it."""

    def __init__(
        self,
        visitors: Visitors,
        *,
        host: str,
        port: int,
        clients: Clients,
        on_login: OnLogin,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """With *tls* it speaks HTTPS only. *clients* tells addresses apart; it trusts nobody where a proxy says who
        somebody is, since its own address is then what counts. *on_login* is told of each attempt to log in."""
        self._on_login = on_login
        self.visitors = visitors
        self._host, self._port, self._tls = host, port, tls
        bounds = Bounds(CONNECTIONS, downloads=8, uploads=4, waiting=4, bodies=8)
        self._server = WebServer(bounds, clients, Cors([]))
        application = self._server.application
        application.middlewares.append(self._guarded)
        aiohttp_jinja2.setup(
            application,
            loader=jinja2.FileSystemLoader(_HERE / "templates"),
            undefined=jinja2.StrictUndefined,
            filters=words.FILTERS,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        application.router.add_static("/static", _HERE / "static")
        application.router.add_get("/login", self._login_form)
        application.router.add_post("/login", self._login)
        application.router.add_post("/logout", self._logout)

    def add(self, routes: list[web.RouteDef]) -> None:
        """Pages for those who may see them."""
        self._server.application.router.add_routes(routes)

    async def start(self) -> None:
        """Listens. Raises OSError where the address cannot be had."""
        await self._server.start(self._host, self._port, drain_for=DRAIN, tls=self._tls)

    async def stop(self) -> None:
        """Listens no more."""
        await self._server.stop()

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await self._admitted(request, handler)
        except web.HTTPException as e:
            e.headers.update(HEADERS)
            raise
        except (Busy, TooSlow, ConnectionError):
            raise  # the server's own, which answers them
        except JournalError as e:
            response = web.Response(status=503, text=f"The journal cannot be read: {e}\n")
        except Exception:
            log.exception("page: %s %s failed", request.method, request.rel_url.path)
            response = web.Response(status=500, text="An error of the gateway itself; its log has the details.\n")
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    async def _admitted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path
        if self.visitors.anybody and not is_loopback(_host(request)):
            # A page of another site can give its own name this machine's address (DNS rebinding), not change this.
            raise web.HTTPMisdirectedRequest(text="This page is for this machine: open it as localhost.\n")
        if request.method == "POST" and not _from_here(request):
            raise web.HTTPForbidden(text="This was sent by another site's page.\n")
        if path == "/login" or path.startswith("/static/"):
            return await handler(request)
        cookie, by_itself = request.cookies.get(COOKIE, ""), path.startswith("/parts/")
        visitor = self.visitors.visitor(request.remote or "", request.headers, cookie, clicked=not by_itself)
        if visitor is None:
            if self.visitors.logins is None:
                raise web.HTTPForbidden(text="The proxy before this page has not said who you are.\n")
            if by_itself:
                raise web.HTTPNoContent(headers={"HX-Redirect": "/login"})
            raise web.HTTPSeeOther("/login")
        request[VISITOR] = visitor
        if request.method == "POST":
            form = await self._form(request)
            if not hmac.compare_digest(str(form.get("token", "")).encode(), visitor.token.encode()):
                raise web.HTTPForbidden(text="This form is out of date: go back, load the page again, and repeat.\n")
            request[FORM] = form
        return await handler(request)

    async def _form(self, request: web.Request) -> dict[str, str]:
        if (request.content_length or 0) > MAX_FORM:
            raise web.HTTPRequestEntityTooLarge(MAX_FORM, request.content_length or 0)
        async with (
            self._server.bodies.take(request.remote or "", gone=gone(request)),
            asyncio.timeout(FORM_WITHIN),
        ):
            return {name: str(value) for name, value in (await request.post()).items()}

    # -- logging in

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        if self.visitors.logins is None:
            raise web.HTTPSeeOther("/")
        return aiohttp_jinja2.render_template("login.html", request, {"mistake": ""})

    async def _login(self, request: web.Request) -> web.StreamResponse:
        logins = self.visitors.logins
        if logins is None:
            raise web.HTTPSeeOther("/")
        form = await self._form(request)
        try:
            cookie = await logins.log_in(form.get("name", ""), form.get("password", ""), request.remote or "")
            mistake = "" if cookie else "That name and password do not belong together."
        except NotNow as e:
            cookie, mistake = None, str(e)
        remote = request.remote or ""
        self._on_login(Login("" if mistake else form.get("name", ""), remote, mistake))
        if cookie is None:
            context = {"mistake": mistake}
            return aiohttp_jinja2.render_template("login.html", request, context, status=401)
        response = web.HTTPSeeOther("/")
        # Where anything says HTTPS: a browser that came by HTTP would not keep the cookie, and harm only itself.
        secure = request.secure or request.headers.get("X-Forwarded-Proto", "") == "https"
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="Strict", secure=secure, path="/")
        return response

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        if self.visitors.logins is not None:
            self.visitors.logins.log_out(request.cookies.get(COOKIE, ""))
        response = web.HTTPSeeOther("/login")
        response.del_cookie(COOKIE, path="/")
        return response


def _from_here(request: web.Request) -> bool:
    """Whether a form was sent by a page of ours, as far as the browser says."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return False
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.host


def _host(request: web.Request) -> str:
    """The name that the page was asked for by."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:
        return ""

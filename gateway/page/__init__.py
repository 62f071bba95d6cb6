"""The page: how the gateway is, what it is doing, and what waits for an operator, in a browser."""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.page.acts import Act, Login
    from gateway.page.desk import Desk
    from gateway.page.passwords import LEAST, make
    from gateway.page.prefetched import PrefetchSeen
    from gateway.page.preview import Previews
    from gateway.page.server import CONNECTIONS, PageServer
    from gateway.page.views import Views
    from gateway.page.visitors import Account, Logins, Proxy, Role, Visitors
    from gateway.page.watch import Parts, Watch
    from gateway.page.words import span
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CONNECTIONS",
    "LEAST",
    "Account",
    "Act",
    "Desk",
    "Login",
    "Logins",
    "PageServer",
    "Parts",
    "PrefetchSeen",
    "Previews",
    "Proxy",
    "Role",
    "Views",
    "Visitors",
    "Watch",
    "make",
    "span",
]

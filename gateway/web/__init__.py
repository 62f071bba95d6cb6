"""The HTTP side: the listener and its bounds, who asks, whose turn it is, conditions and ranges, CORS.

Knows nothing of what is served. Everything that strangers on the internet can reach passes here first.
"""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.web.clients import Clients, household
    from gateway.web.conditions import CONDITIONS, Content, Verdict, judge
    from gateway.web.cors import METHODS, Cors
    from gateway.web.outbound import DIRECT, NoWay, Outbound, Proxy, Way
    from gateway.web.server import Bounds, WebServer, ask_for_body, expects_later, gone
    from gateway.web.tls import ServerCertificate
    from gateway.web.turns import Busy, TooSlow, Turn, Turns
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "CONDITIONS",
    "DIRECT",
    "METHODS",
    "Bounds",
    "Busy",
    "Clients",
    "Content",
    "Cors",
    "NoWay",
    "Outbound",
    "Proxy",
    "ServerCertificate",
    "TooSlow",
    "Turn",
    "Turns",
    "Verdict",
    "Way",
    "WebServer",
    "ask_for_body",
    "expects_later",
    "gone",
    "household",
    "judge",
]

"""Who is told of what cannot wait, and by which way.

Any room above can raise an alert (:func:`gateway.alerts.jobs.raise_alert`): what it is about is a kind and a subject,
and it is told once on every channel, and once more when it is over.
"""

from typing import TYPE_CHECKING

from gateway.runtime import on_demand

if TYPE_CHECKING:
    from gateway.alerts.alert import Alert
    from gateway.alerts.deliver import AlertChannel, AlertDelivery
    from gateway.alerts.held import HeldJobs
    from gateway.alerts.jobs import SEND, SendAlert, end_alert, raise_alert
    from gateway.alerts.mail import EmailAlert, Security
    from gateway.alerts.standing import StandingAlerts, Watch
    from gateway.alerts.stories import AlertStory, history
    from gateway.alerts.webhook import WebhookAlert
else:
    __getattr__ = on_demand(__name__)

__all__ = [
    "SEND",
    "Alert",
    "AlertChannel",
    "AlertDelivery",
    "AlertStory",
    "EmailAlert",
    "HeldJobs",
    "Security",
    "SendAlert",
    "StandingAlerts",
    "Watch",
    "WebhookAlert",
    "end_alert",
    "history",
    "raise_alert",
]

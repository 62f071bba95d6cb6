"""Who is told of what cannot wait, and by which way.

Any room above can raise an alert (:func:`gateway.alerts.jobs.raise_alert`): what it is about is a kind and a subject,
and it is told once on every channel, and once more when it is over.
"""

from gateway.alerts.alert import Alert
from gateway.alerts.jobs import end_alert, raise_alert

__all__ = ["Alert", "end_alert", "raise_alert"]

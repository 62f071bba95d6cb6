"""What can go wrong between a report and where it comes from or goes to.

The text of an error is for the operator and names the likely fix. It holds no patient data, no secret and no URL,
and neither does the error's cause: a presigned URL is a key to the report for as long as it is valid.
"""

from __future__ import annotations

from gateway.runtime import GatewayError


class ReportError(GatewayError):
    """Base of everything that an edge of the reports did to us.

    ``transient`` says whether the same attempt may succeed later without anybody changing anything.
    """

    transient = False

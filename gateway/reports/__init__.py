"""Use case 3, ``report.delivered``: bring the signed report back into the hospital."""

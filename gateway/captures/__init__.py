"""Use case 2, ``secondary_capture.access_requested``: take in what the viewer uploads, store it in the PACS."""

"""Use case 1, ``study.access_requested``: find, fetch, cache, answer with URLs."""

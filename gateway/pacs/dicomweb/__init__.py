"""A PACS by HTTP: QIDO-RS and WADO-RS (PS3.18)."""

"""DIMSE towards the PACS: find, move, store and echo as SCU, and our own Storage SCP."""

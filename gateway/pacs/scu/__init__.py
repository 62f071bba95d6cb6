"""What we ask of a PACS as SCU: find, move, get, store, echo, storage commitment (PS3.4)."""

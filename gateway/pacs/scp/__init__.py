"""What a PACS asks of us: our Storage and Verification SCP (PS3.4 Annexes A, B)."""

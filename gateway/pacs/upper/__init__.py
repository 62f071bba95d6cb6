"""The upper layer (PS3.8) and the messages that it carries (PS3.7)."""

"""The HTTP side: the listener and its bounds, who asks, whose turn it is, conditions and ranges, CORS.

Knows nothing of what is served. Everything that strangers on the internet can reach passes here first.
"""

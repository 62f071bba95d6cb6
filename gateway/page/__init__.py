"""The page: how the gateway is, what it is doing, and what waits for an operator, in a browser."""

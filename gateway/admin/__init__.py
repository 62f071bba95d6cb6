"""For those who run the gateway: health, checks, the control socket of the commands."""

"""``make bench``: how fast the gateway is, as ratios to the floors that its neighbours set, from one run."""

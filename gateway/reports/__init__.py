"""Use case 3: a signed report is kept once acknowledged, and brought to where the hospital looks for it."""

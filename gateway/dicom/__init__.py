"""The format: UIDs, elements, Part 10 files, character sets, transfer syntaxes, SOP classes (PS3.5, PS3.6, PS3.10)."""

"""A report as files in a folder."""

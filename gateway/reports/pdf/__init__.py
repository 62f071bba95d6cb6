"""A report's PDF: fetched from Avara, and opened before it is trusted."""

"""Who is told of what cannot wait, and by which way."""

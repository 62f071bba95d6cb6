"""The S3 side: client, batch presigner, embedded server."""

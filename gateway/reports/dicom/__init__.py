"""What a report becomes in a PACS: an Encapsulated PDF, a Basic Text SR."""

"""The wire contract with Avara: event and answer models, signature check, webhook endpoint."""

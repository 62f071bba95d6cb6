"""Use case 2: upload URLs are given out, what is uploaded is checked and stored in the PACS, surely and once."""

"""The network between us and a PACS: DICOM in both directions, and DICOMweb."""

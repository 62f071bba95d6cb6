"""A report as DICOM objects: Encapsulated PDF, Basic Text SR."""

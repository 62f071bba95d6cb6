"""What every room stands on: the root of all errors, the clock, supervised tasks. Knows nothing of DICOM or Avara."""

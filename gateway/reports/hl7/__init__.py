"""A report as an HL7 v2 message, and its way to the receiver."""

"""The REST side: one typed method for each gateway operation."""

"""What the gateway told about an inspector: from the poll to the subscriber."""

"""What a technician sees of a fleet in a terminal: out of the database, as its reader, and the operator's home."""

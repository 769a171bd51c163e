"""`hostler apply`: agents and environments kept in files."""

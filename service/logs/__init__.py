"""What is written while it serves: log lines, and traces."""

"""What the doctor knows."""

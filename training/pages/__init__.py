"""The report and the comparison as pages, and their pictures."""

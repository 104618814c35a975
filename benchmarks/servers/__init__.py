"""The servers that are measured beside the real service, each as somebody would write it from the documentation."""

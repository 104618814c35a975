"""One module a group of paths. They translate between HTTP and what lies behind, and decide nothing."""

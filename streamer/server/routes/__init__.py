"""The HTTP endpoints: one module per topic."""

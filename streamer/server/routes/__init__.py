"""What the server answers over HTTP: one module a topic."""

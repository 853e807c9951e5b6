"""The HTTP server: configuration, routes, tokens."""

"""Characters, their renderers and backends, and the engine that runs every session."""

"""What every room shares: constants, clocks, queues, frames, errors, metrics. Imports nothing of lipstream."""

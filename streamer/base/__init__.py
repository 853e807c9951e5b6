"""Shared by every package: constants, clock, queues, frames, errors, metrics. Imports no other part of lipstream."""

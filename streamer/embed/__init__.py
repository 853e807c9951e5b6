"""Avatars in the caller's own process, without a server, and adapters for LiveKit Agents and Pipecat."""

"""Avatars in a process of one's own, without a server; adapters to LiveKit Agents and Pipecat."""

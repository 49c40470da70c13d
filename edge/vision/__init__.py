"""What the process of a camera does: read, look, tell. It knows nothing of the agent, and imports little: memory."""

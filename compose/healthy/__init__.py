"""A health check for containers of every role."""

"""What `docker compose up` needs beside the roles: the one-shot that makes secrets, and the test of health."""

"""The database: numbered forward-only migrations, its roles, and the command that applies them."""

"""How the agent fares: what it reports, to whom it tells it, and what watches that everything goes on."""

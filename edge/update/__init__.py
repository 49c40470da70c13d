"""Updates: what the fleet wants to run here is taken, tried, and confirmed, or what was before is put back."""

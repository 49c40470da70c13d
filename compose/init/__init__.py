"""The one-shot before everything else: certificates and passwords, each where only its service reads it."""

"""Jails for code that nobody trusts: killable processes with limits, apart from the host as far as the host allows."""

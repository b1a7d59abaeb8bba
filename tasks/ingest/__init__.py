"""Raw files of public sources → one row type."""

"""The commands of `posttrain`: one file a group; flows/cli.py joins them."""

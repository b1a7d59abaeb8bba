"""The small world of the `smoke` recipe: a script makes, spoils and solves its questions, without hub or account."""

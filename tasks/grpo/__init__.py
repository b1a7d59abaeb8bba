"""Group relative policy optimisation: rollouts by servers, advantages within groups, one update a batch."""

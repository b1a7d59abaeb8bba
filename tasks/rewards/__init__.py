"""Rewards: a query and a response in, a verdict out. A fault of grading is never a statement about the response."""

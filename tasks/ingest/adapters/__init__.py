"""One pure function for each native schema: a raw row → the fields of a query."""

"""What nodes may do: the mode `Node` of authorization, and the admission plugin NodeRestriction."""

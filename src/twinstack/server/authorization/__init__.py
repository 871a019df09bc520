"""Who may do what: requests as attributes, the modes that judge them, and the words of a refusal."""

"""Who owns which field: sets of fields, merging by schema, managers (KEP-555, structured merge and diff). Pure."""

"""The three patches of the API: JSON patch (RFC 6902), merge patch (RFC 7386) and strategic merge."""

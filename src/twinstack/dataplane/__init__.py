"""Services and EndpointSlices as one node must carry them: front ends, and the endpoints behind each. Pure."""

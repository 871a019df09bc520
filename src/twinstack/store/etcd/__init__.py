"""The distributed store: an etcd cluster, spoken to over gRPC on a small HTTP/2 client of our own."""

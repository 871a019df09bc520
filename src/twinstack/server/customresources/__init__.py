"""Resources that objects of the cluster define (apiextensions.k8s.io/v1): served beside the built-in ones."""

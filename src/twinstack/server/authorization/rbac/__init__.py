"""Role-based access control (rbac.authorization.k8s.io/v1): rules, who has them, and who may give them away."""

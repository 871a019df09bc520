"""What fields mean, in a line or two: those that make a Service dual-stack (KEP-563). By type and field."""

from __future__ import annotations

DESCRIPTIONS: dict[str, dict[str, str]] = {
    "core.v1.Service": {
        "": "A Service is a name for a set of pods, with stable virtual addresses of one or both IP families.",
        "spec": "What is wanted: ports, the pods that are meant, and the addresses.",
        "status": "What has been found: the addresses of the load balancer, and conditions.",
    },
    "core.v1.ServiceSpec": {
        "": "What a Service is to be.",
        "allocateLoadBalancerNodePorts": (
            "Whether a Service of type LoadBalancer gets a node port for each of its ports; yes unless said otherwise."
        ),
        "clusterIP": (
            "The first virtual address, equal to clusterIPs[0]. Left empty it is allocated from the cluster's range of "
            "the first family. None makes the Service headless: its name leads to the pods themselves."
        ),
        "clusterIPs": (
            "The virtual addresses, one a family and at most two, in the order of ipFamilies. Those left out are "
            "allocated. The first cannot change while the Service needs it; the second comes and goes with "
            "ipFamilyPolicy."
        ),
        "externalIPs": (
            "Further addresses, of either family, at which nodes accept traffic for the Service. Whoever sets them "
            "sees to it that traffic for them reaches a node."
        ),
        "externalName": "For type ExternalName: the DNS name that the Service's own name stands for.",
        "externalTrafficPolicy": (
            "Where traffic goes that comes from outside through node ports, external addresses and load balancers: "
            "Cluster means any endpoint, Local those of the receiving node, with the client's address kept."
        ),
        "healthCheckNodePort": (
            "The port at which each node tells a load balancer whether it has endpoints, when "
            "externalTrafficPolicy is Local."
        ),
        "internalTrafficPolicy": (
            "Where traffic to the cluster's addresses goes that comes from inside: Cluster means any endpoint, Local "
            "those of the client's own node; without any there, packets are dropped."
        ),
        "ipFamilies": (
            "The families of the Service's addresses, IPv4 or IPv6, at most two, the primary first. Left empty they "
            "follow from ipFamilyPolicy, clusterIPs and the cluster's own families. The primary family cannot "
            "change; the secondary may be added or taken away."
        ),
        "ipFamilyPolicy": (
            "How many families the Service has. SingleStack is one. PreferDualStack is both where the cluster has "
            "both, else one. RequireDualStack is both, or the Service is refused. Left empty it is SingleStack, "
            "unless two families or two addresses are named, which take a policy that allows them."
        ),
        "loadBalancerClass": "Which implementation serves a Service of type LoadBalancer; empty is the default one.",
        "loadBalancerIP": "The address to ask a load balancer for; one address cannot speak for two families.",
        "loadBalancerSourceRanges": (
            "The client ranges, in CIDR form and of either family, that may come in through the load balancer."
        ),
        "ports": "The ports that the Service offers. Both families offer the same ones.",
        "publishNotReadyAddresses": "Whether pods that are not ready count as endpoints.",
        "selector": (
            "The labels of the pods that are the endpoints. Without a selector, endpoints are up to whoever writes "
            "the EndpointSlices."
        ),
        "sessionAffinity": "ClientIP keeps a client, by its address, at one endpoint; None spreads its connections.",
        "sessionAffinityConfig": "How long ClientIP affinity lasts.",
        "trafficDistribution": "Which endpoints to prefer when there is a choice, such as those in the same zone.",
        "type": (
            "How far the Service reaches: ClusterIP inside the cluster, NodePort at a port of every node too, "
            "LoadBalancer at an address from outside too. ExternalName is an alias in DNS, without addresses."
        ),
    },
    "core.v1.ServicePort": {
        "": "One port of a Service.",
        "appProtocol": "A hint at what is spoken over the port, such as kubernetes.io/h2c.",
        "name": "The port's name, unique in the Service; needed when there are several.",
        "nodePort": "The port on every node, for both families. Left empty it is allocated if the type needs one.",
        "port": "The port at the Service's addresses.",
        "protocol": "TCP, UDP or SCTP.",
        "targetPort": "The pods' port, by number or by name; the same as port unless said otherwise.",
    },
    "discovery.v1.EndpointSlice": {
        "": "A part of a Service's endpoints. A dual-stack Service has slices of its own for each family.",
        "addressType": "The family of every address in the slice, IPv4 or IPv6, or FQDN. It never changes.",
        "endpoints": "The endpoints, at most 1000.",
        "ports": "The ports that every endpoint of the slice has, at most 100.",
    },
    "networking.v1.IPAddress": {
        "": "An address that is in use; its name is the address in canonical form, of either family.",
        "spec": "Whose address it is.",
    },
    "networking.v1.ServiceCIDR": {
        "": "The ranges that Services get their addresses from.",
        "spec": "The ranges.",
        "status": "Whether the ranges are in use.",
    },
    "networking.v1.ServiceCIDRSpec": {
        "cidrs": "One range, or two of different families. They cannot change.",
    },
    "core.v1.PodStatus": {
        "podIP": "The pod's primary address, equal to podIPs[0].",
        "podIPs": "The pod's addresses, at most one a family, the primary first.",
        "hostIP": "The primary address of the pod's node.",
        "hostIPs": "The addresses of the pod's node, at most one a family, the primary first.",
    },
    "core.v1.NodeSpec": {
        "podCIDR": "The node's primary range of pod addresses, equal to podCIDRs[0].",
        "podCIDRs": "The node's ranges of pod addresses, at most one a family.",
    },
}


def description(type_name: str, field: str = "") -> str:
    """What a field means, or without one the type; empty when nothing is said."""
    return DESCRIPTIONS.get(type_name, {}).get(field, "")

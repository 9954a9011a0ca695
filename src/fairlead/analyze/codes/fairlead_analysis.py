"""The codes of Fairlead's own analyzers: what Istio's miss."""

from __future__ import annotations

from fairlead.analyze.codes.code import ERROR, INFO, WARNING, Code

_OBJECTS = (
    Code(
        "FL3700",
        "RemovedKind",
        ERROR,
        "An object is of a kind that Istio had once. Nothing reads it, so that what it forbade is allowed now.",
        "Write an object of the kind that took its place; the finding names it.",
    ),
    Code(
        "FL3701",
        "KindNotServed",
        WARNING,
        "An object is of a kind about traffic that Fairlead does not act on.",
        "The finding names the kinds that do the same.",
    ),
    Code(
        "FL3705",
        "CertificateExpired",
        WARNING,
        "The certificate in a Secret has expired.",
        "Renew it. Whoever reads the Secret gets the new one without a restart.",
    ),
    Code("FL3706", "CertificateExpires", WARNING, "The certificate in a Secret expires within 30 days.", "Renew it."),
    Code(
        "FL3707",
        "KeyOfAnother",
        WARNING,
        "The key in a Secret is not that of its certificate: Envoy refuses the pair.",
        "Put the two that belong together into it.",
    ),
    Code(
        "FL3727",
        "CertificateForOtherHosts",
        ERROR,
        "The certificate of a Gateway's server is not for a host that the server has: clients that ask for it refuse"
        " the connection.",
        "Put a certificate with the host among its names into the Secret.",
        traffic=True,
    ),
)
_ROUTING = (
    Code(
        "FL3702",
        "RouteShadowed",
        WARNING,
        "Two VirtualServices have one host at one gateway. Their routes are joined, the older object's first; one of"
        " these takes every request, so that the routes of the other are never met.",
        "Join them, or give the older one conditions.",
    ),
    Code(
        "FL3704",
        "GatewayWithoutRoutes",
        WARNING,
        "No VirtualService uses a Gateway: its HTTP servers answer every request with 404.",
        "Name the Gateway in a VirtualService.",
    ),
    Code(
        "FL3713",
        "HostHidden",
        WARNING,
        "A Sidecar does not let its workloads see a host to which a VirtualService of its namespace routes: they get"
        " 503 or reach it without the mesh.",
        "Add the host to the Sidecar's egress.",
    ),
    Code(
        "FL3718",
        "SelectsNothing",
        WARNING,
        "A Service selects none of the workloads of its namespace: requests to it end with 503.",
        "Correct the selector.",
    ),
    Code(
        "FL3719",
        "TargetPortMissing",
        WARNING,
        "A Service leads to a port that none of its workloads offers.",
        "Correct targetPort, or the ports of the workload.",
    ),
    Code(
        "FL3720",
        "HTTPOnTCP",
        WARNING,
        "A VirtualService has HTTP routes for a host whose ports do not speak HTTP by name or appProtocol: the routes"
        " have no effect.",
        "Name the ports http or grpc, or use tcp routes.",
    ),
    Code(
        "FL3721",
        "TimeoutEndsRetries",
        INFO,
        "A route's timeout ends before its retries can be made.",
        "Make timeout at least (attempts + 1) x perTryTimeout.",
    ),
    Code(
        "FL3722",
        "HostUnknown",
        WARNING,
        "A VirtualService is for sidecars, and nobody defines its host: clients cannot call it, and the routes have no"
        " effect.",
        "Correct the host, or define it by a Service or ServiceEntry.",
    ),
    Code(
        "FL3723",
        "RuleHidden",
        WARNING,
        "A route names a subset of a DestinationRule that is not exported to its namespace: requests end with 503.",
        "Export the DestinationRule, or put it into the namespace of the service.",
    ),
    Code(
        "FL3724",
        "NoEndpoints",
        WARNING,
        "A ServiceEntry with static endpoints has none: requests to it end with 503.",
        "Give it endpoints, or a workloadSelector that selects WorkloadEntries.",
    ),
    Code(
        "FL3725",
        "RulesOfOneHost",
        WARNING,
        "Two DestinationRules of a namespace are for one host. Subsets are joined, and only the older one's traffic"
        " policy counts.",
        "Join them.",
    ),
)
_SECURITY = (
    Code(
        "FL3709",
        "PlaintextToStrict",
        ERROR,
        "A DestinationRule makes clients call without mutual TLS, and the workloads behind the host demand it: every"
        " request fails.",
        "Remove the rule's tls settings: mutual TLS between sidecars needs none. Or make the port PERMISSIVE.",
        traffic=True,
    ),
    Code(
        "FL3710",
        "MutualToPlaintext",
        ERROR,
        "A DestinationRule makes clients call with mutual TLS, and the workloads behind the host have no proxy or have"
        " it switched off: every request fails.",
        "Remove the rule's tls settings: the mesh finds out by itself.",
        traffic=True,
    ),
    Code(
        "FL3711",
        "StrictBesidePlaintext",
        INFO,
        "A STRICT policy is for a namespace in which workloads without a proxy run. They cannot call the others.",
        "Give them a proxy, or make what they call PERMISSIVE. `fairlead mtls` says who still calls in plaintext.",
    ),
    Code(
        "FL3712",
        "PolicySelectsNothing",
        WARNING,
        "A policy selects no workload: it has no effect.",
        "Correct the selector or the namespace.",
    ),
    Code(
        "FL3714",
        "ClaimsUnchecked",
        WARNING,
        "An AuthorizationPolicy asks for a token's identity or claims and no RequestAuthentication validates tokens for"
        " its workloads: no request has any, an ALLOW rule never matches.",
        "Add a RequestAuthentication for the same workloads.",
    ),
    Code(
        "FL3715",
        "IssuerUnknown",
        WARNING,
        "An AuthorizationPolicy names an issuer of tokens that no RequestAuthentication accepts.",
        "Correct the issuer: it is compared letter by letter.",
    ),
    Code(
        "FL3716",
        "PrincipalUnknown",
        WARNING,
        "An AuthorizationPolicy names a service account that no workload runs as.",
        "Correct it: cluster.local/ns/NAMESPACE/sa/ACCOUNT.",
    ),
    Code(
        "FL3717",
        "HTTPConditionOnTCP",
        WARNING,
        "An AuthorizationPolicy asks for methods, paths, hosts or tokens and its workloads serve no HTTP: an ALLOW rule"
        " never matches, a DENY rule matches by what is left of it.",
        "Use ports, principals, namespaces or addresses, or say that the port speaks HTTP.",
    ),
    Code(
        "FL3726",
        "TokensOptional",
        INFO,
        "A RequestAuthentication refuses bad tokens, and lets requests without any pass; no AuthorizationPolicy of its"
        " namespace asks for one.",
        "Add an AuthorizationPolicy with requestPrincipals, if tokens are to be needed.",
    ),
)
_SUPPRESSIONS = (
    Code(
        "FL3790",
        "UnusedSuppression",
        INFO,
        "A suppression hides nothing: what it was for has been corrected, or its code or object is misspelt.",
        "Remove it.",
    ),
    Code("FL3791", "WrongSuppressions", ERROR, "A file of suppressions cannot be read.", "Correct it."),
)

ANALYSIS: tuple[Code, ...] = (*_OBJECTS, *_ROUTING, *_SECURITY, *_SUPPRESSIONS)

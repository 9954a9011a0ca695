"""Istio's codes about Kubernetes and installations. Names, numbers and severities are Istio's, the words our own."""

from fairlead.analyze.codes.code import ERROR, INFO, WARNING, Code

_UPGRADE = "it compares Istio releases and the options of istioctl, and Fairlead is not upgraded by it"

PLATFORM = (
    Code(
        "IST0102",
        "NamespaceNotInjected",
        INFO,
        "Pods of a namespace get no sidecar. Said only where the documents show a Kubernetes (pods, deployments,"
        " injectors).",
        "Label the namespace istio-injection=enabled, or =disabled to say that it is meant.",
    ),
    Code(
        "IST0103",
        "PodMissingProxy",
        WARNING,
        "A pod has no proxy although its namespace is injected.",
        "Start the pod again; if that does not help, look at the injector.",
    ),
    Code(
        "IST0107",
        "MisplacedAnnotation",
        WARNING,
        "An annotation of Istio has no effect on this kind of object.",
        "Move it. What is meant for pods belongs into a Deployment's spec.template.metadata.",
    ),
    Code("IST0108", "UnknownAnnotation", WARNING, "An annotation in Istio's domain that Istio does not know."),
    Code(
        "IST0116",
        "DeploymentAssociatedToMultipleServices",
        WARNING,
        "Services of one Deployment give one port different transports.",
        "Give the Services different ports.",
    ),
    Code(
        "IST0118",
        "PortNameIsNotUnderNamingConvention",
        INFO,
        "A Service's port does not say its protocol. The proxy looks at the first bytes, which costs time with"
        " protocols in which the server speaks first, and gives no HTTP features if it guesses wrong.",
        "Name the port http, grpc-api, tcp-something ..., or set appProtocol.",
    ),
    Code(
        "IST0123",
        "NamespaceMultipleInjectionLabels",
        WARNING,
        "A namespace has both labels that ask for injection, or one of them and that of ambient mode.",
        "Keep one of istio-injection, istio.io/rev and istio.io/dataplane-mode.",
    ),
    Code("IST0125", "InvalidAnnotation", WARNING, "An annotation's value cannot be read.", "Correct the value."),
    Code(
        "IST0135",
        "DeprecatedAnnotation",
        INFO,
        "An annotation works and may not work in a later version of Istio.",
        "Use what took its place.",
    ),
    Code(
        "IST0136",
        "AlphaAnnotation",
        INFO,
        "An annotation belongs to a feature in alpha. As in Istio this is said on request only:"
        " `--analyzer annotations.AlphaAnalyzer`.",
    ),
    Code(
        "IST0137",
        "DeploymentConflictingPorts",
        WARNING,
        "Services of one Deployment lead from different ports to one target port: the proxy cannot tell for which of"
        " them a connection comes.",
        "Let one target port have one service port.",
    ),
    Code(
        "IST0139",
        "InvalidWebhook",
        ERROR,
        "An injector selects pods that another one selects too, or asks a Service that is not there.",
        "Remove the old injector, or correct the selectors.",
    ),
    Code(
        "IST0141",
        "InsufficientPermissions",
        ERROR,
        "The rights to install Istio are missing.",
        absent="Fairlead is not installed with rights in a Kubernetes cluster",
    ),
    Code(
        "IST0142",
        "UnsupportedKubernetesVersion",
        ERROR,
        "The version of Kubernetes is too old.",
        absent="Fairlead does not run on a Kubernetes cluster",
    ),
    Code(
        "IST0143",
        "LocalhostListener",
        ERROR,
        "An application listens on a loopback address although a Service exposes its port.",
        absent="it needs a look at the sockets of a running pod; Fairlead's proxies dial the application on the"
        " loopback address on purpose",
    ),
    Code(
        "IST0144",
        "InvalidApplicationUID",
        WARNING,
        "An application runs as user 1337. The rules of capture leave that user's traffic alone, since it is the"
        " proxy's.",
        "Use another user.",
    ),
    Code(
        "IST0146",
        "ImageAutoWithoutInjectionWarning",
        WARNING,
        "A Deployment leaves the proxy's image to the injector, and no injector selects its pods.",
        "Label the namespace or the pods so that an injector selects them.",
    ),
    Code(
        "IST0147",
        "ImageAutoWithoutInjectionError",
        ERROR,
        "A pod has the image auto still: nothing was injected, and it cannot start.",
        "Start it again where an injector selects it.",
    ),
    Code(
        "IST0148",
        "NamespaceInjectionEnabledByDefault",
        INFO,
        "A namespace says nothing about injection, and the injector is set up to inject then.",
    ),
    Code(
        "IST0150",
        "ExternalNameServiceTypeInvalidPortName",
        WARNING,
        "A port of an ExternalName service says TCP or nothing, and the proxy cannot forward that by name.",
        "Name the port after its protocol.",
    ),
    Code(
        "IST0156",
        "UnsupportedGatewayAPIVersion",
        ERROR,
        "The Gateway API in the cluster is too old.",
        instead="IST0176, as in Istio's own analyzers",
    ),
    Code(
        "IST0158",
        "PodsIstioProxyImageMismatchInNamespace",
        WARNING,
        "Pods run another version of the proxy than the one that is injected now.",
        "Start them again.",
    ),
    Code(
        "IST0163",
        "InvalidExternalControlPlaneConfig",
        WARNING,
        "A webhook of a remote cluster has no address of its control plane.",
        "Set clientConfig.url.",
    ),
    Code(
        "IST0164",
        "ExternalControlPlaneAddressIsNotAHostname",
        INFO,
        "A webhook of a remote cluster asks its control plane by address.",
        "Use a name.",
    ),
    Code("IST0168", "UnknownUpgradeCompatibility", WARNING, "A setting changed in a release.", absent=_UPGRADE),
    Code("IST0169", "UpdateIncompatibility", WARNING, "A setting changed in a release.", absent=_UPGRADE),
    Code(
        "IST0170",
        "MultiClusterInconsistentService",
        WARNING,
        "One service is defined differently in several clusters.",
        absent="one mesh of Fairlead has one store of objects, and one object for a service",
    ),
    Code(
        "IST0172",
        "FutureUnsupportedGatewayAPIVersion",
        WARNING,
        "The Gateway API in the cluster will be too old.",
        instead="IST0176, as in Istio's own analyzers",
    ),
    Code(
        "IST0175",
        "JwksUriFetchUnrestricted",
        WARNING,
        "An istiod fetches keys of tokens from any address that a RequestAuthentication names.",
        "Set BLOCKED_CIDRS_IN_JWKS_URIS on it.",
    ),
    Code(
        "IST0176",
        "GatewayAPICRDVersionBelowMinimum",
        WARNING,
        "A kind of the Gateway API is defined in a version that is too old to be read.",
        "Install a newer version.",
    ),
)

"""Fairlead's own codes: admission, compilation, and what the running parts say."""

from fairlead.analyze.codes.code import ERROR, WARNING, Code
from fairlead.analyze.codes.fairlead_analysis import ANALYSIS
from fairlead.analyze.codes.fairlead_changes import CHANGES
from fairlead.analyze.codes.fairlead_hosts import HOSTS

_READ = (
    Code(
        "FL0000",
        "Failure",
        ERROR,
        "A rule of the compiler failed on an object. What it made before stays in force.",
        "This is a defect in Fairlead: please report it.",
    ),
    Code("FL0001", "Invalid", ERROR, "A value breaks a rule of its kind. The object is refused.", "Correct the value."),
    Code("FL0002", "WrongType", ERROR, "A value is of another type than its field.", "Correct the value."),
    Code(
        "FL0003",
        "UnknownField",
        ERROR,
        "There is no field of this name. It is never ignored: what it was meant to do would silently not happen.",
        "Use the nearest name that the finding suggests; `fairlead explain KIND` lists the fields.",
    ),
    Code("FL0004", "Missing", ERROR, "A field that must be set is not set.", "Set it."),
    Code("FL0005", "NotAmongThese", ERROR, "A value is not one of those that the field takes.", "Use one of them."),
    Code("FL0006", "OutOfBounds", ERROR, "A value is too long, too short, too large or too small.", "Stay inside."),
    Code(
        "FL0007",
        "UnknownKind",
        ERROR,
        "Fairlead serves no kind of this name, or not in this version.",
        "`fairlead api-resources` lists the kinds.",
    ),
    Code(
        "FL0008",
        "Twice",
        WARNING,
        "One object stands in the files twice and the later one counts; or settings are no YAML or hold two documents.",
        "Remove one of the two, or correct the settings.",
    ),
    Code(
        "FL0009",
        "Conflict",
        WARNING,
        "Two objects say something of one thing that cannot be joined. The older one stands.",
        "Join the two, or rename one.",
    ),
    Code(
        "FL0100",
        "NoEffect",
        WARNING,
        "A field is understood, and this version of the mesh does not act on it.",
        "Remove it, or do not rely on it.",
    ),
    Code("FL0101", "DeprecatedField", WARNING, "A field works, and another one took its place.", "Use the other one."),
    Code(
        "FL0102",
        "Unused",
        WARNING,
        "A part of an object can never have an effect, such as a route that an earlier one always precedes (Istio's"
        " IST0130 and IST0131).",
        "Remove it, or move it before what hides it.",
    ),
    Code("FL0103", "Doubtful", WARNING, "A value is valid and probably not what was meant.", "Look at it again."),
)
_COMPILED = (
    Code(
        "FL0201",
        "ServerLeftOut",
        WARNING,
        "A server of a Gateway is not served: another Gateway of the same proxies has its port, port name or host.",
        "Give one of them another port, port name or host.",
    ),
    Code(
        "FL0202",
        "DanglingRoute",
        WARNING,
        "A route leads to a host, port or subset that is not there: its requests fail with 503.",
        "Correct the destination, or create what it names.",
    ),
    Code(
        "FL0203",
        "IngressNotServed",
        WARNING,
        "An Ingress is not served, though no other controller's class says so: it has no class and the mode is STRICT, "
        "its class does not exist, or Ingress is switched off.",
        "Set ingressClassName to an IngressClass whose controller is istio.io/ingress-controller, or set the mesh's "
        "ingressControllerMode.",
    ),
    Code(
        "FL0204",
        "CertificateApart",
        WARNING,
        "Rules of a host are bound to the oldest Ingress that has any. Another Ingress has a certificate for the host: "
        "requests that come over TLS with that one find no rule (404).",
        "Have the certificate in the Ingress with the rules.",
    ),
    Code(
        "FL0205",
        "IngressPortUnknown",
        WARNING,
        "An Ingress names a port of a Service that has none of that name: the path is not served.",
        "Name a port that the Service has, or its number.",
    ),
    Code(
        "FL0310",
        "PortsDisagree",
        WARNING,
        "Two services give one port of a workload different protocols. One of them stands.",
        "Give the port the same protocol in both, or another target port.",
    ),
    Code(
        "FL0311",
        "PortUnreachable",
        WARNING,
        "A port of a host cannot be told from one of another host at the same address, or from the proxy's own.",
        "Give one of them another port or an address of its own.",
    ),
    Code(
        "FL0313",
        "WorkloadWithoutAddress",
        WARNING,
        "A Service, or a ServiceEntry without DNS, chooses a workload whose address is a name or a socket: no call "
        "goes there.",
        "Give the workload an IP address, or choose it by a ServiceEntry with resolution: DNS.",
    ),
    Code("FL0312", "RuleRepeated", WARNING, "A TLS or TCP rule repeats one that is in force.", "Remove one of them."),
    Code(
        "FL0401",
        "KeysUnknown",
        WARNING,
        "The keys of an issuer of tokens could not be fetched: its tokens are refused.",
        "See that jwksUri can be reached from the control plane, or give the keys inline.",
    ),
    Code(
        "FL0402",
        "ProviderUnusable",
        ERROR,
        "The provider of a CUSTOM policy is missing or unusable: requests that the policy is for are refused.",
        "Define the provider in MeshConfig's extensionProviders.",
    ),
    Code("FL0104", "NamespaceUnseen", WARNING, "No discovery selector chooses a namespace that has objects."),
    Code(
        "FL0105",
        "OtherRevision",
        WARNING,
        "An object or a namespace is for another revision of the mesh (its label istio.io/rev).",
        "Remove the label, or name the mesh's revision by the same label of the ConfigMap istio-system/istio.",
    ),
    Code("FL2000", "SidecarLeftOut", WARNING, "Another Sidecar is in force for the same workloads.", "Join the two."),
    Code(
        "FL2001",
        "TLSNotTerminated",
        WARNING,
        "TLS settings of a Sidecar's port have no effect, since the port speaks mesh mTLS.",
        "Set its mTLS mode to DISABLE, or remove tls.",
    ),
    Code("FL2002", "DelegateLeftOut", WARNING, "A rule delegates to what cannot take it.", "Correct the delegate."),
    Code("FL2003", "DelegateUnreachable", WARNING, "No request meets both a rule and the rule that delegates to it."),
    Code("FL2004", "NoAddressLeft", ERROR, "There is no virtual address left to allot.", "Set addresses yourself."),
    Code("FL2401", "NoEnvoyMessage", ERROR, "The value of a patch is no Envoy message.", "Correct the patch."),
    Code("FL2402", "PatchMatchesNothing", WARNING, "A patch matches nothing in the proxies that it is for."),
    Code("FL2410", "RateLimitServer", WARNING, "The server of a RateLimit cannot be used.", "Name one that exists."),
    Code("FL2610", "PlaintextCallers", WARNING, "A STRICT policy would cut off callers that were seen in plaintext."),
    Code("FL2611", "PolicyLeftOut", WARNING, "Another PeerAuthentication of the same level is in force."),
    Code("FL2801", "TelemetryUnusable", WARNING, "A provider of telemetry cannot be used.", "The finding says why."),
    Code("FL2900", "NoWayThere", WARNING, "An instance has no address, and no gateway of its network leads to it."),
    Code("FL3300", "ProxySettings", ERROR, "The settings with which a proxy starts cannot be read."),
    Code("FL3302", "NoServiceAccount", WARNING, "Members of a WorkloadGroup have no identity of their own."),
    Code("FL3400", "PullSecret", WARNING, "The Secret with which a Wasm module is fetched is missing or unusable."),
    Code("FL3500", "NoTruthValue", ERROR, "An annotation is neither true nor false.", "Write it in quotes."),
    Code("FL3501", "OnDemandNoEffect", WARNING, "An annotation about clusters on demand has no effect."),
)
_RUNNING = (
    Code("FL2403", "BootstrapRefused", ERROR, "An Envoy does not start with the bootstrap that EnvoyFilters make."),
    Code("FL2600", "Capture", ERROR, "Rules that capture traffic cannot be made or put in force."),
    Code("FL2601", "AuthorityEnds", WARNING, "A certificate of the authority ends soon.", "`fairlead ca rotate start`"),
    Code("FL2602", "RotationHeld", ERROR, "Proxies are not far enough for the next step of a rotation."),
    Code("FL2603", "JoinIssuers", ERROR, "The file of issuers whose tokens may join cannot be used."),
    Code("FL2604", "TrustDomainDiffers", ERROR, "Identities are issued in another trust domain than MeshConfig says."),
    Code("FL2605", "BundleUnreached", WARNING, "A SPIFFE bundle with roots of peers cannot be fetched."),
    Code("FL2802", "Unreadable", ERROR, "A file is not there, cannot be read, or is no YAML."),
    Code("FL2901", "GatewayUnknown", WARNING, "The DNS name of a network's gateway cannot be looked up."),
    Code("FL3600", "NoUrl", ERROR, "A test's `to` is no URL that can be understood."),
    Code("FL3601", "NothingExpected", ERROR, "A test lacks a caller or what is expected, or says both in two ways."),
    Code("FL3602", "NoCaller", ERROR, "A test's caller is not written as `fairlead why --from` takes it."),
    Code("FL3301", "CannotJoin", WARNING, "A workload cannot become a member of its WorkloadGroup."),
)

OWN = (*_READ, *_COMPILED, *_RUNNING, *ANALYSIS, *HOSTS, *CHANGES)

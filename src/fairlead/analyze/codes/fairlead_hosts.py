"""Our own codes of findings about hosts and what runs there, of a mesh that runs."""

from __future__ import annotations

from fairlead.analyze.codes.code import ERROR, WARNING, Code

HOSTS: tuple[Code, ...] = (
    Code(
        "FL3730",
        "PortTaken",
        ERROR,
        "A proxy, or the control plane, cannot listen on a port: something else on the host has it.",
        "End what listens there (`ss -ltnp`), or take another port.",
    ),
    Code(
        "FL3731",
        "ConfigurationRefused",
        ERROR,
        "Envoy refuses a resource that it is sent, and keeps the last one that it took.",
        "Correct the field; `fairlead proxy-status` says when all proxies have taken it.",
    ),
    Code(
        "FL3732",
        "ProxyBehind",
        WARNING,
        "A proxy has not taken what it was sent for half a minute or longer.",
        "`fairlead proxy-status --slow` says what it waits for.",
    ),
    Code(
        "FL3733",
        "OtherVersion",
        WARNING,
        "An agent is of another version than the control plane, or an Envoy of another one than most of the others.",
        "Start the workload anew with the version of the others.",
    ),
    Code(
        "FL3734",
        "ClockSkew",
        ERROR,
        "The clock of a host differs from the control plane's by more than five seconds. Certificates and tokens are"
        " judged by it: those of the other are not valid yet, or no longer.",
        "Set both clocks (NTP).",
    ),
    Code(
        "FL3735",
        "CertificateNotValid",
        ERROR,
        "The certificate of a workload has ended, does not hold yet, or is not there: nobody in the mesh takes its"
        " connections.",
        "Read `fairlead logs NAME --proxy` for why it was not renewed.",
    ),
    Code(
        "FL3736",
        "CertificateEnds",
        WARNING,
        "The certificate of a workload has little of its life left, or could not be renewed at half of it.",
        "Mend what the agent says hinders it (`fairlead logs NAME --proxy`, too); it tries again by itself.",
    ),
    Code(
        "FL3737",
        "WrongRoot",
        ERROR,
        "A workload's certificate was signed by no authority that the mesh trusts, or the workload trusts other ones.",
        "Start the workload anew: it joins again. `fairlead ca status` says what the mesh trusts.",
    ),
    Code(
        "FL3738",
        "CaptureRulesMissing",
        ERROR,
        "The rules that turn a workload's traffic to its proxy are not as they should be: calls go past the proxy, or"
        " come to nothing.",
        "End the replica's process, its node makes all anew. A node that was told another --loopback: say so here.",
    ),
    Code(
        "FL3739",
        "NamesNotResolved",
        ERROR,
        "A name of the mesh is not resolved inside of a workload.",
        "The agent answers DNS there: read `fairlead logs NAME --proxy`.",
    ),
    Code(
        "FL3740",
        "EndpointUnreachable",
        WARNING,
        "Nobody answers at the address and port of an endpoint.",
        "Look there whether the application listens; from elsewhere a firewall may be between.",
    ),
    Code(
        "FL3741",
        "AgentNotRunning",
        ERROR,
        "A replica's agent, and with it its proxy and application, does not run though its node has started it.",
        "A running node starts it again: is `fairlead node` (or `up`) running on that host?",
    ),
    Code(
        "FL3742",
        "ProcessNotReady",
        ERROR,
        "Fewer replicas of a Process are ready than are wanted.",
        "`fairlead describe process/NAME` and `fairlead logs NAME` say why.",
    ),
    Code(
        "FL3743",
        "ProcessWithoutNode",
        ERROR,
        "No node runs a Process.",
        "Start `fairlead node` on its host (`fairlead up` has one).",
    ),
    Code(
        "FL3744",
        "FilesNotUsable",
        WARNING,
        "A file with certificates or a key that a proxy uses is gone from its host, or is none any more. The proxy goes"
        " on with what was in it; should it start anew, what needs the file is left out.",
        "Put the file right on the proxy's host. It is used without a restart.",
    ),
)

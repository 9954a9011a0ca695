"""The codes of what changes: effects of a change before it is made, and history."""

from __future__ import annotations

from fairlead.analyze.codes.code import ERROR, WARNING, Code

CHANGES = (
    Code("FL3801", "RouteShadowed", WARNING, "After the change a route loses requests to one before it."),
    Code("FL3802", "HostLost", WARNING, "After the change a host is not known to proxies that know it now."),
    Code("FL3803", "MutualTLSWeakened", WARNING, "After the change a port takes, or a client sends, less than mTLS."),
    Code("FL3804", "MoreAllowed", WARNING, "After the change requests are allowed that are refused now."),
    Code("FL3805", "EndpointsLost", WARNING, "The change takes many of a cluster's endpoints at once, or the last."),
    Code("FL3806", "ClusterMissing", WARNING, "After the change a route leads to a cluster that is not there: 503."),
    Code("FL3807", "ListenerDrains", WARNING, "The change makes a listener anew: all its connections are drained."),
    Code("FL3808", "PushHeld", WARNING, "The change takes so much away that the control plane would hold its push."),
    Code("FL3809", "CallersDenied", WARNING, "After the change callers are denied that are not now, or may be."),
    Code("FL3810", "NoChange", ERROR, "What was asked for is not the description of a change.", "Correct the request."),
    Code("FL3811", "Forgotten", ERROR, "What there was at a revision is not kept any more.", "Name a later one."),
    Code("FL3812", "ChangeInvalid", ERROR, "An object of the change cannot be read.", "Correct it."),
    Code("FL3813", "SettingUnknown", ERROR, "A proxy has no resource or setting of this name.", "Name another one."),
    Code(
        "FL3814", "Unanswered", ERROR, "A question took too long, or could not be worked on.", "Ask for less at once."
    ),
    Code("FL3815", "PlaintextRefused", WARNING, "After the change a port takes no plaintext, and somebody may use it."),
    Code("FL3816", "CertificateLost", WARNING, "After the change a server of a gateway has no certificate."),
    Code(
        "FL3900",
        "ChangedSince",
        ERROR,
        "Objects were changed after the revision that is to be taken back: taking it back would undo that too.",
        "Look at the changes with `fairlead show`; --force takes them back too.",
    ),
    Code(
        "FL3901",
        "NothingToTakeBack",
        ERROR,
        "A revision changed the meaning of no object, so that there is nothing to take back.",
    ),
    Code("FL3902", "RevisionGone", ERROR, "A revision is not kept any more, or has not come yet."),
    Code("FL3903", "NoSuchEvent", ERROR, "The timeline has no events of this kind.", "Use one of those it lists."),
    Code("FL3910", "CheckFailed", ERROR, "A check of `fairlead check` ended with an error of its own.", "Report it."),
)

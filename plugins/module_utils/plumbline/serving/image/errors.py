"""What an engine's words mean when it cannot pull: each with the check that fails, what was expected, and what to do.

The words are those of moby's ``distribution`` package and of Go's network and TLS libraries, of engines up to 28; engines that keep images
in containerd, as 29 does on new machines, say ``failed to resolve reference``.
"""

from __future__ import annotations

import re

from ...core.scrub import scrub_text

_LOOK_UP = "look the digest up with `docker buildx imagetools inspect <name>:<tag>`; was it pushed to this registry?"

# In this order: a registry that is down behind a proxy also says refused; TLS errors name a host and a port, too.
_KINDS = (
    (
        r"proxyconnect",
        "serve.registry", "the engine's proxy does not let it through to {registry}", "a proxy that answers",
        "check HTTP_PROXY and HTTPS_PROXY of the engine (`docker info`); NO_PROXY for a registry of your own",
    ),
    (
        r"no space left on device|disk quota exceeded",
        "serve.disk", "the disk of the engine is full", "room for the image, compressed and unpacked at once",
        "free space at {root} (`docker system df`, `docker image prune`), or give the engine another data-root",
    ),
    (
        r"server gave HTTP response to HTTPS client",
        "serve.registry", "the registry {registry} speaks plain HTTP, and the engine insists on TLS",
        "TLS, or a registry that the engine trusts",
        'give the registry a certificate; or, on a network of your own, "insecure-registries": ["{registry}"] in /etc/docker/daemon.json'
        " and restart the engine",
    ),
    (
        r"x509:|tls: |certificate (?:is|has|signed|verify)",
        "serve.registry", "the engine does not trust the certificate of {registry}", "a certificate that the engine can verify",
        "put the CA's certificate in /etc/docker/certs.d/{registry}/ca.crt, and check the node's clock",
    ),
    (
        r"toomanyrequests|rate limit|429 Too Many",
        "serve.registry", "the registry {registry} refuses more pulls for now", "a pull that it allows",
        "wait, log in on the nodes with `docker login`, or pull from a registry of your own",
    ),
    (
        r"unauthorized|authentication required|no basic auth credentials|pull access denied|denied: |insufficient_scope"
        r"|(?:401|403) (?:Unauthorized|Forbidden)|authorization failed",
        "serve.registry", "the registry {registry} wants to know who asks, or has no such repository for this user", "the right to pull",
        "`docker login {registry}` as root on each node (kept in /root/.docker/config.json), and check the name",
    ),
    (
        r"no matching manifest|does not match the specified platform|no match for platform",
        "serve.image", "the image is not made for this node's processor", "an image for the node's platform",
        "take the digest of the index, or of the manifest for this platform",
    ),
    (
        r"verification failed|failed to verify|digest mismatch|does not match digest|unexpected commit digest|failed size validation",
        "serve.image", "what came is not what the digest says", "bytes with this digest",
        "the registry, a proxy or the node's memory or disk changed it: pull again, and elsewhere",
    ),
    (
        r"manifest unknown|manifest for .* not found|name unknown|repository name not known|failed to resolve reference .*not found"
        r"|not found: manifest|blob unknown",
        "serve.image", "the registry {registry} has no {wanted}", "an image of this name and digest in the registry",
        _LOOK_UP,
    ),
    (
        r"connection refused|no such host|i/o timeout|no route to host|network is unreachable|host is unreachable|deadline exceeded"
        r"|Client\.Timeout|TLS handshake timeout|connection reset|connection timed out|server misbehaving|temporary failure in name"
        r"|\bEOF\b|\b50[0234] |Service Unavailable|Bad Gateway|Gateway Time-?out|Internal Server Error|failed to do request",
        "serve.registry", "the registry {registry} is down, or this node does not reach it", "a registry that answers",
        "look from this node: `curl -sS {url}` (401 is an answer); start the registry, or check name, port, route and firewall",
    ),
    (
        r"invalid reference format|invalid checksum digest|repository name must|invalid tag format",
        "serve.image", "{wanted} is no name that the engine takes", "registry/name@sha256:<64 digits>", _LOOK_UP,
    ),
)  # fmt: skip


def explain(words, reference, root="/var/lib/docker"):
    """Return ``(check, seen, threshold, remedy)`` of what an engine said when it could not pull; ``root`` is where it keeps images."""
    url = re.search(r"https?://[^/\"\s]+/v2/", scrub_text(words))
    names = {"registry": reference.registry, "wanted": reference.wanted, "root": root}
    names["url"] = url.group() if url else "https://%s/v2/" % reference.registry
    for pattern, check, seen, threshold, remedy in _KINDS:
        if re.search(pattern, words, re.IGNORECASE):
            return check, "%s: %s" % (_filled(seen, names), _short(words, reference)), threshold, _filled(remedy, names)
    seen = "the engine could not pull %s: %s" % (reference.wanted, _short(words, reference))
    return "serve.image", seen, "the image", "try `docker pull %s` on this node" % reference.wanted


def _filled(text, names):
    for name, value in names.items():
        text = text.replace("{%s}" % name, value)
    return text


def _short(words, reference):
    """Return the words on one line without secrets, the name that was said already as ``it``. A cut could hide what tells a secret."""
    words = " ".join(scrub_text(words).split()).replace(reference.wanted, "it")
    return words if len(words) <= 400 else words[:400] + "…"

"""An engine's own words, and what is said of them.

Those of Docker 20.10.24 (Debian) were taken from a real engine before Debian's docker-registry 2.8.2; the others are from issues of the
projects named beside them.
"""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.serving.image import errors
from ansible.module_utils.plumbline.serving.image.reference import Reference

NAME = "registry:5000/plumbline/vllm-cpu@sha256:" + "0" * 64
DIAL = 'Get "https://registry:5000/v2/": dial tcp 10.106.0.12:5000: '

SEEN = [
    # engine 20.10.24
    ("manifest for %s not found: manifest unknown: manifest unknown" % NAME, "serve.image", "has no " + NAME, "imagetools"),
    (DIAL + "connect: connection refused", "serve.registry", "is down", "https://registry:5000/v2/"),
    (DIAL + "connect: no route to host", "serve.registry", "is down", "firewall"),
    ('Get "https://nosuch.example/v2/": dial tcp: lookup nosuch.example on 10.255.255.53:53: read udp 10.106.0.11:37752->'
     "10.255.255.53:53: i/o timeout", "serve.registry", "is down", "https://nosuch.example/v2/"),
    ('Get "https://registry:5000/v2/": http: server gave HTTP response to HTTPS client', "serve.registry", "plain HTTP",
     '"insecure-registries": ["registry:5000"]'),
    ("invalid reference format: repository name must be lowercase", "serve.image", "no name that the engine takes", "imagetools"),
    ('Get "http://127.0.0.1:5001/v2/a/b/manifests/sha256:443a": no basic auth credentials', "serve.registry", "who asks", "docker login"),
    ("unauthorized: authentication required", "serve.registry", "who asks", "docker login"),
    ('Get "https://node1:5443/v2/": x509: certificate signed by unknown authority', "serve.registry", "does not trust", "ca.crt"),
    ("write /var/lib/docker/tmp/GetImageBlob1560546042: no space left on device", "serve.disk", "is full", "/data/docker"),
    # ciiiii/cloudflare-docker-proxy 90, dagu 985
    ("manifest unknown", "serve.image", "has no", "imagetools"),
    # gpustack 4860: an engine that keeps images in containerd
    ("failed to resolve reference \"quay.io/gpustack/runner:x\": quay.io/gpustack/runner:x: not found", "serve.image", "has no",
     "imagetools"),
    # kubernetes-sigs/external-dns 770: containerd
    ("failed to do request: Head https://registry:5000/v2/a/manifests/v1: dial tcp 52.215.109.161:443: i/o timeout", "serve.registry",
     "is down", "firewall"),
    # moby: TranslatePullError
    ("pull access denied for a/b, repository does not exist or may require 'docker login': denied: requested access to the resource"
     " is denied", "serve.registry", "has no such repository for this user", "docker login registry:5000"),
    ('Head "https://ghcr.io/v2/a/manifests/1": unauthorized: authentication required', "serve.registry", "who asks", "docker login"),
    ("Get https://registry:5000/v2/a/manifests/1: no basic auth credentials", "serve.registry", "who asks", "docker login"),
    ('Get "https://registry:5000/v2/": x509: certificate signed by unknown authority', "serve.registry", "does not trust",
     "/etc/docker/certs.d/registry:5000/ca.crt"),
    ('Get "https://registry:5000/v2/": tls: failed to verify certificate: x509: certificate has expired or is not yet valid',
     "serve.registry", "does not trust", "clock"),
    ("toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading",
     "serve.registry", "refuses more pulls", "docker login"),
    ('Get "https://registry:5000/v2/": proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: connection refused', "serve.registry",
     "proxy", "NO_PROXY"),
    ("failed to register layer: Error processing tar file(exit status 1): write /opt/a.so: no space left on device", "serve.disk",
     "disk of the engine is full", "/data/docker"),
    ("no matching manifest for linux/amd64 in the manifest list entries", "serve.image", "processor", "platform"),
    ("filesystem layer verification failed for digest sha256:" + "a" * 64, "serve.image", "not what the digest says", "pull again"),
    ('Get "https://ghcr.io/v2/": EOF', "serve.registry", "is down", "https://ghcr.io/v2/"),
    ("received unexpected HTTP status: 503 Service Unavailable", "serve.registry", "is down", "https://registry:5000/v2/"),
]  # fmt: skip


@pytest.mark.parametrize("words, check, seen, remedy", SEEN)
def test_each_cause_is_told_apart_and_has_its_remedy(words, check, seen, remedy):
    found = errors.explain(words, Reference(NAME), "/data/docker")
    assert found[0] == check and seen in found[1] and remedy in found[3], found
    assert found[2], "what was expected"


def test_words_that_nobody_knows_are_passed_on():
    found = errors.explain("the engine is in a bad mood", Reference(NAME))
    assert (
        found[:2] == ("serve.image", "the engine could not pull %s: the engine is in a bad mood" % NAME)
        and "docker pull " + NAME in found[3]
    )


def test_the_name_is_said_once_and_long_words_are_cut():
    said = errors.explain("manifest for %s not found: manifest unknown %s" % (NAME, "x" * 1000), Reference(NAME))[1]
    assert said.count(NAME) == 1 and said.endswith("…") and len(said) < 600


SIGNED = "https://acr.blob.core.windows.net/4711/?se=2026&sig=abcDEF%2F123&sp=r"
USER = "https://robot:hunter2hunter2@registry:5000/v2/"


@pytest.mark.parametrize("words, secret", [
    ('error pulling image configuration: download failed: Get "%s": dial tcp: i/o timeout' % SIGNED, "abcDEF"),
    ('Get "%s": dial tcp: connection refused' % USER, "hunter2"),
    ("nobody knows: " + SIGNED, "abcDEF"),
    # Cut behind the password, what tells that it is one would be gone.
    ("x" * 370 + ' Get "%s": dial tcp: connection refused' % USER, "hunter2"),
])  # fmt: skip
def test_what_an_engine_says_of_an_address_is_without_its_secrets(words, secret):
    said = str(errors.explain(words, Reference(NAME)))
    assert secret not in said and "[scrubbed]"[:4] in said

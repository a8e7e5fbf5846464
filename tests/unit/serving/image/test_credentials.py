"""The password that ``docker login`` left, in its forms; and that a broken file is none."""

from __future__ import annotations

import base64
import json

import pytest
from ansible.module_utils.plumbline.serving.image import credentials


def told(tmp_path, config, registry="registry:5000"):
    path = tmp_path / "config.json"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    found = credentials.header(registry, str(path))
    return json.loads(base64.urlsafe_b64decode(found)) if found else None


def in_base64(text):
    return base64.b64encode(text.encode()).decode()


def test_a_password_of_the_file_goes_to_its_registry_only(tmp_path):
    config = {"auths": {"registry:5000": {"auth": in_base64("user:pass:word")}}}
    assert told(tmp_path, config) == {"username": "user", "password": "pass:word", "serveraddress": "registry:5000"}
    assert told(tmp_path, config, "other:5000") is None and told(tmp_path, config, "docker.io") is None


def test_docker_hub_has_its_old_name(tmp_path):
    config = {"auths": {"https://index.docker.io/v1/": {"auth": in_base64("me:secret")}}}
    for name in ("docker.io", "index.docker.io"):
        assert told(tmp_path, config, name) == {"username": "me", "password": "secret", "serveraddress": "https://index.docker.io/v1/"}


@pytest.mark.parametrize("key", ["https://r.example/v2/", "http://r.example", "r.example/team/", "https://r.example:443/v1/"])
def test_a_key_is_an_address_as_old_clients_wrote_it(tmp_path, key):
    config = {"auths": {"https://r.example.org/v2/": {"auth": in_base64("no:no")}, key: {"auth": in_base64("me:secret")}}}
    registry = "r.example:443" if ":443" in key else "r.example"
    assert told(tmp_path, config, registry) == {"username": "me", "password": "secret", "serveraddress": registry}
    assert told(tmp_path, config, "example") is None and told(tmp_path, config, "r.example:5000") is None


def test_an_identity_token_goes_as_such(tmp_path):
    assert told(tmp_path, {"auths": {"registry:5000": {"identitytoken": "t"}}}) == {"identitytoken": "t", "serveraddress": "registry:5000"}


@pytest.mark.parametrize("name, expected", [("me", {"username": "me", "password": "s"}), ("<token>", {"identitytoken": "s"})])
def test_a_helper_is_asked(tmp_path, monkeypatch, name, expected):
    helper = tmp_path / "docker-credential-acr"
    helper.write_text(
        '#!/bin/sh\nread -r server\n[ "$server" = registry:5000 ] || exit 1\necho \'{"Username": "%s", "Secret": "s"}\'\n' % name
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert told(tmp_path, {"credHelpers": {"registry:5000": "acr"}}) == dict(expected, serveraddress="registry:5000")
    assert told(tmp_path, {"credsStore": "acr"}, "elsewhere") is None
    assert told(tmp_path, {"credsStore": "no-such"}) is None and told(tmp_path, {"credsStore": "../evil"}) is None


@pytest.mark.parametrize(
    "config", ["", "[]", "{", {"auths": {"registry:5000": {"auth": "%%"}}}, {"auths": {"registry:5000": {}}}, {"auths": None}]
)
def test_what_holds_none_is_none(tmp_path, config):
    assert told(tmp_path, config) is None
    assert credentials.header("registry:5000", str(tmp_path / "none")) == ""

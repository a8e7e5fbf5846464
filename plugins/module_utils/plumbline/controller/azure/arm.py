"""Asks Azure's resource manager, with azure.azcollection's login and the Azure SDK's client.

The collection's own ``azure_rm_resource`` is not used: it puts the body, with a serial number in it, among its arguments, repeats nothing
that Azure throttles, and gives an error as a text without its code.
"""

from __future__ import annotations

import json
import os

from ...core.scrub import scrub_text


class Refused(Exception):
    """Azure answered with an error, or could not be asked: ``status`` is HTTP's (None: no answer), ``code`` Azure's own."""

    def __init__(self, text, status=None, code=""):
        super().__init__(text)
        self.status, self.code = status, code


class Arm:
    """One login, and requests by path. ``auth_source`` is azure.azcollection's; None is its environment variable, or ``auto``."""

    def __init__(self, auth_source=None):
        self._client, self._host = _client(auth_source)

    def ask(self, method, path, version, body=None):
        """Return ``(status, answer)`` of one request; any status from 400 on raises :class:`Refused` with Azure's code and words."""
        from azure.core.exceptions import AzureError
        from azure.core.rest import HttpRequest

        # The address of a list's next page has its version.
        whole = path.startswith(self._host + "/")
        params = {} if whole else {"api-version": version}
        request = HttpRequest(
            method, path if whole else self._host + path, params=params, json=body, headers={"Accept": "application/json"}
        )
        try:
            response = self._client.send_request(request)
            text = response.text()
        except AzureError as error:
            raise Refused("Azure could not be asked (%s %s): %s" % (method, path, scrub_text(_first_line(error)))) from None
        answer = _read(text)
        if response.status_code >= 400:
            error = answer.get("error") if isinstance(answer.get("error"), dict) else {}
            code, words = str(error.get("code") or response.reason), str(error.get("message") or "no message")
            said = "Azure answers %d to %s %s (%s: %s)" % (response.status_code, method, path, code, words)
            raise Refused(scrub_text(said), response.status_code, code)
        return response.status_code, answer

    def all_of(self, path, version):
        """Return the items of a list, of all its pages."""
        found, asked = [], path
        while asked:
            _status, answer = self.ask("GET", asked, version)
            found += [item for item in answer.get("value") or [] if isinstance(item, dict)]
            asked = answer.get("nextLink")
        return found


def _read(text):
    try:
        answer = json.loads(text)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _first_line(error):
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _client(auth_source):
    """Return the SDK's client, logged in, and the address that it asks; raises :class:`Refused` without the SDK, or without a login."""
    try:
        from ansible_collections.azure.azcollection.plugins.module_utils import azure_rm_common
        from azure.core import PipelineClient
        from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RetryPolicy
    except ImportError as error:
        raise Refused("the Azure SDK is not installed for this Python: run `make azure` (docs/azure.md). %s" % error) from None
    if not hasattr(azure_rm_common, "managed_identity"):
        why = (azure_rm_common.HAS_AZURE_EXC or "").strip().rpartition("\n")[2]
        raise Refused("the Azure SDK is not whole for this Python: run `make azure` (docs/azure.md). %s" % why)
    try:
        login = azure_rm_common.AzureRMAuth(auth_source=auth_source or os.environ.get("ANSIBLE_AZURE_AUTH_SOURCE"))
        host = login._cloud_environment.endpoints.resource_manager.rstrip("/")
        credential = login.azure_credential_track2
    except Exception as error:  # noqa: BLE001 -- the collection raises its own, the CLI's and the SDK's
        raise Refused(
            "the login to Azure failed: %s. Log in again (az login), see docs/azure.md" % scrub_text(_first_line(error))
        ) from None
    policies = [RetryPolicy(), BearerTokenCredentialPolicy(credential, host + "/.default")]
    return PipelineClient(host, policies=policies), host

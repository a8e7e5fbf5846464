"""The Ansible module of every module of ours that gets options in which a token may stand."""

from __future__ import annotations

from ansible.module_utils import basic

from .fact import sentence
from .scrub import scrub_options, scrub_text


class AnsibleModule(basic.AnsibleModule):
    """Ansible's own, whose results never hold a secret that it was given.

    Ansible adds the options to each result as ``invocation``: -vvv prints it, a JSON callback and ansible-runner keep it. ``no_log`` of a
    whole ``env`` would take values such as ``1`` out of every text of the result. So the options are shown without what looks like a
    secret, and what is long enough to be one alone is taken out of the rest: a log's line, an error, a command.
    """

    def _return_formatted(self, kwargs):
        clean, secrets = scrub_options(self.params if isinstance(getattr(self, "params", None), dict) else {})
        kwargs.setdefault("invocation", {"module_args": clean})
        self.no_log_values.update(secrets)
        if "msg" in kwargs:
            kwargs["msg"] = scrub_text(str(kwargs["msg"]))
        super()._return_formatted(kwargs)

    def end(self, reasons, **result):
        """End with reasons of a fact: as failed where one is, with what to do about each."""
        bad = [item for item in reasons if item["status"] == "failed"]
        if bad:
            said = "; ".join("%s. What to do: %s" % (sentence(item), item["remedy"]) for item in bad)
            self.fail_json(msg=said, reasons=reasons, **result)
        self.exit_json(reasons=reasons, **result)

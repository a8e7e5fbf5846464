"""Filters that look up what is known of a machine, in the variables of ``roles/sku``."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible.module_utils.plumbline.health import expect
from ansible.module_utils.plumbline.machine import sku


def plumbline_sku_table(skus, hosts=None, overrides=None):
    """Return every SKU with ``overrides`` over it, ``{name: {section: {key: value}}}``; what is wrong is an error."""
    try:
        table = sku.table(skus, hosts, overrides)
    except ValueError as error:
        raise AnsibleFilterError("sku_overrides: %s" % error) from error
    wrong = [text for name, entry in table.items() for text in expect.problems(name, entry)]
    if wrong:
        raise AnsibleFilterError("sku_overrides: " + "; ".join(wrong))
    return table


def plumbline_sku(table, name, required=True):
    """Return what is known of the SKU ``name``, whatever its case: ``{section: {key: value}}``, every section there.

    A name that the table has not is an error, or, where it is not ``required``, a machine of which nothing is known.
    """
    known, entry = sku.find(table, name)
    if known is None and required:
        text = "sku_name is %r, and that SKU is not known: expected auto or one of %s; sku_overrides takes more"
        raise AnsibleFilterError(text % (name, ", ".join(sorted(table))))
    return entry or sku.nothing()


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"plumbline_sku_table": plumbline_sku_table, "plumbline_sku": plumbline_sku}

"""The fabric phase counts on its InfiniBand ports whatever becomes of its measurements."""

from __future__ import annotations

from play_run import results, run_playbook

HERE = {
    "ansible_connection": "local", "ansible_become": False, "ansible_host": "127.0.0.1",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
}  # fmt: skip
READ, JUDGE = "Read the InfiniBand counters before the measurements", "Judge the InfiniBand counters over the measurements"


def test_the_counters_are_judged_though_every_measurement_fails(tmp_path):
    inventory = {group: {"hosts": {"one": HERE}} for group in ("nodes", "serving", "usable")}
    given = {"fabric_baseline_sizes": [6], "fabric_baseline_link": False, "sku_name": "Standard_ND96isr_H100_v5"}
    run = run_playbook(tmp_path, "playbooks/fabric.yml", inventory, run_id="counters", **given)
    # No message has six bytes: the measurement itself refuses.
    failed = {event["event_data"]["task"] for event in run.events if event["event"] == "runner_on_failed"}
    assert failed == {"Measure %s.%s" % (op, scope) for op in ("all_reduce", "sendrecv") for scope in ("within", "across")}
    assert results(run, READ)[0]["reading"]["ports"] == {}
    fact = results(run, JUDGE)[0]["fact"]
    # The SKU has eight ports and this machine has none.
    assert fact["status"] == "failed" and "not there: mlx5_ib0, mlx5_ib1" in fact["reasons"][0]["seen"]
    assert (tmp_path / "results/counters/facts/one/link.ib_counters.json").is_file()

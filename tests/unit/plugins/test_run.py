"""Whole runs by ``ansible-playbook``: where results are kept, what happens where they cannot be, Ctrl-C, other folders.

A task that sets the fact ``plumbline`` returns what a module does: no node and no measurement is needed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from project import ROOT
from report_runs import health, reason

PLAYBOOK = str(Path(sys.executable).parent / "ansible-playbook")


def task(name, status="healthy"):
    found = dict(health(status, [reason("disk.free", status, "1 GiB", "5 GiB")]), name=name)
    return {"name": "Measure " + name, "ansible.builtin.set_fact": {"plumbline": {"health": found}}}


def shell(command):
    return {"name": "Do " + command[:20], "ansible.builtin.command": {"argv": ["sh", "-c", command]}}


def write(folder, tasks, *more):
    nodes = {"node1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": nodes}}))
    play = {"name": "Prove each node", "hosts": "nodes", "gather_facts": False, "tasks": tasks}
    (folder / "play.yml").write_text(yaml.safe_dump([play, *more]))


def environment(folder, **more):
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PLUMBLINE_", "ANSIBLE_"))}
    return {**env, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PLUMBLINE_RESULTS_DIR": str(folder / "results"), **more}


def run(folder, *arguments, prefix=(), env=None):
    argv = [*prefix, PLAYBOOK, "-i", "hosts.yml", *(arguments or ["play.yml"])]
    return subprocess.run(argv, cwd=folder, env=env or environment(folder), capture_output=True, text=True, check=False, timeout=180)


def test_a_good_run_ends_well_and_a_run_that_measures_nothing_leaves_no_folder(tmp_path):
    write(tmp_path, [task("node")])
    done = run(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder,) = (tmp_path / "results").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["facts", "run.json"]
    write(tmp_path, [shell("true")])
    assert run(tmp_path).returncode == 0 and list((tmp_path / "results").iterdir()) == [folder]


def test_a_results_folder_that_cannot_be_made_ends_the_run_before_anything_is_touched(tmp_path):
    write(tmp_path, [shell("touch %s/touched" % tmp_path)])
    (tmp_path / "results").write_text("a file")
    done = run(tmp_path)
    assert done.returncode == 1 and not (tmp_path / "touched").exists()
    assert "no results can be kept: %s/results: File exists (EEXIST); that path is a file: move it away" % tmp_path in done.stderr
    assert "PLUMBLINE_RESULTS_DIR" in done.stderr and "Nothing was touched." in done.stderr


def test_a_run_id_of_another_run_is_refused(tmp_path):
    write(tmp_path, [task("node")])
    env = environment(tmp_path, PLUMBLINE_RUN_ID="mine")
    assert run(tmp_path, env=env).returncode == 0
    done = run(tmp_path, env=env)
    assert done.returncode == 1 and "results/mine is there already, with the results of another run" in done.stderr


def test_a_folder_that_is_removed_in_the_middle_names_each_fact_and_fails_the_run(tmp_path):
    gone = shell("rm -rf %s/results/*" % tmp_path)
    write(tmp_path, [task("first", "degraded"), gone, task("second", "failed")])
    done = run(tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    end = done.stdout[done.stdout.index("PLAY RECAP") :]
    assert "not everything could be kept, so this run fails" in end
    assert "facts/node1/health.first.json could not be kept" in end and "was kept and is gone" in end
    assert "facts/node1/health.second.json could not be kept" in end and "the run's folder was removed" in end
    shown = end[end.index("what was measured and not kept") :]
    assert (
        len(shown.splitlines()) == 3 and " first " in shown and "failed     node1" in shown and "disk.free: 1 GiB (expected 5 GiB)" in shown
    )


def test_a_full_disk_names_the_fact_and_fails_the_run_also_before_a_choice_is_made_of_it(tmp_path):
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=160k none "$0" && exec "$@"', str(tmp_path / "results")]
    (tmp_path / "results").mkdir()
    if subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs root and a mount namespace of its own")
    big = task("big")
    big["ansible.builtin.set_fact"]["plumbline"]["health"]["context"]["log"] = "x" * 400000
    choose = {"name": "Choose", "hosts": "nodes", "gather_facts": False, "tasks": [
        {"name": "Choose the nodes", "node_selection": {"nodes": ["node1"], "layouts": []}, "ignore_errors": True}]}  # fmt: skip
    write(tmp_path, [task("small"), big], choose)
    done = run(tmp_path, prefix=mount)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "health.big.json: No space left on device (ENOSPC); make room there" in done.stdout
    assert "so nothing can be decided from it" in done.stdout
    full = [*mount[:4], 'mount -t tmpfs -o size=16k none "$0" && exec "$@"', mount[5]]
    done = run(tmp_path, prefix=full)
    assert done.returncode == 1 and "No space left on device" in done.stderr and "PLAY [" not in done.stdout


def test_a_report_that_lacks_a_fact_says_so_and_fails(tmp_path):
    blocked = shell("mkdir -p %s/results/mine/facts && touch %s/results/mine/facts/node1" % (tmp_path, tmp_path))
    report = {"ansible.builtin.import_playbook": str(ROOT / "playbooks/report.yml")}
    write(tmp_path, [blocked, task("node")], report)
    done = run(tmp_path, env=environment(tmp_path, PLUMBLINE_RUN_ID="mine"))
    assert done.returncode == 2 and (tmp_path / "results/mine/report.html").is_file()
    assert "facts/node1/health.node.json could not be kept" in done.stdout and "Not proven:" in done.stdout


def test_check_mode_shows_the_verdicts_that_it_has(tmp_path):
    report = {"ansible.builtin.import_playbook": str(ROOT / "playbooks/report.yml")}
    write(tmp_path, [task("node", "failed")], report)
    done = run(tmp_path, "play.yml", "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "othing was measured" not in done.stdout and "overall: failed" in done.stdout and "no file was written" in done.stdout
    write(tmp_path, [shell("true")], report)
    done = run(tmp_path, "play.yml", "--check")
    assert done.returncode == 0 and "Check mode: nothing was measured" in done.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 99), (signal.SIGTERM, None)])
def test_ctrl_c_says_what_still_runs_and_how_to_end_it(tmp_path, number, status):
    write(tmp_path, [task("node"), shell("sleep 60")])
    argv = [PLAYBOOK, "-i", "hosts.yml", "play.yml"]
    with subprocess.Popen(argv, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          start_new_session=True) as process:  # fmt: skip
        for line in process.stdout:
            if "Do sleep" in line:
                break
        time.sleep(1)
        process.send_signal(number)
        _out, said = process.communicate(timeout=60)
    assert process.returncode == status or (status is None and process.returncode), said
    assert "cut short in the phase 'Prove each node', at the task 'Do sleep 60' on node1" in said
    reset = os.path.relpath(ROOT / "playbooks/reset.yml", tmp_path)
    assert "servers and containers of a layout" in said and "ansible-playbook -i hosts.yml %s" % reset in said
    assert "1 facts are kept in results/" in said and "report.yml -e report_run_dir=" in said


def test_from_another_folder_a_run_says_how(tmp_path):
    write(tmp_path, [task("node")])
    env = environment(tmp_path)
    del env["ANSIBLE_CONFIG"]
    done = run(tmp_path, str(ROOT / "site.yml"), "--tags", "preflight", env=env)
    assert done.returncode == 1 and "PLAY [" not in done.stdout
    command = "ANSIBLE_CONFIG=%s/ansible.cfg ansible-playbook -i hosts.yml %s/site.yml --tags preflight" % (ROOT, ROOT)
    assert command in done.stderr and "nothing was touched" in done.stderr
    done = run(tmp_path, str(ROOT / "playbooks/clocks.yml"), "-e", "ansible_become=false")
    assert done.returncode == 0 and "facts kept in results/" in done.stdout, done.stdout + done.stderr


def test_a_node_that_ssh_does_not_reach_is_told_with_cause_and_remedy(tmp_path):
    report = {"ansible.builtin.import_playbook": str(ROOT / "playbooks/report.yml")}
    write(tmp_path, [{"name": "Ask", "ansible.builtin.ping": {}}], report)
    node = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_user": "azure"}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": {"node1": node}}}))
    done = run(tmp_path)
    assert done.returncode, done.stdout
    assert "unreachable node1        nothing listens there for ssh → start sshd on it, or set ansible_port" in done.stdout
    (folder,) = (tmp_path / "results").iterdir()
    page = (folder / "report.md").read_text() if (folder / "report.md").exists() else (folder / "incidents.json").read_text()
    assert "nothing listens there for ssh" in page and "start sshd on it" in page

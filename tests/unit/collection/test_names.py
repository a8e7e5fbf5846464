"""Names get the collection's in front where they name something of ours, and nothing else of a text changes."""

from __future__ import annotations

import pytest
from plumbline_collection import python, tasks, templates
from plumbline_collection.edits import Unsafe
from plumbline_collection.project import Project
from project import ROOT

PROJECT = Project(ROOT)
HOUSE = "ansible_collections.plumbline.cluster.plugins.module_utils.plumbline"


def test_the_builder_knows_what_the_project_has():
    assert {"node_health", "preflight_check", "nccl_test"} <= set(PROJECT.actions) and "preflight_check" not in PROJECT.modules
    assert {"plumbline_addresses", "locked_mhz", "layout_ended"} <= set(PROJECT.filters)
    assert PROJECT.roles == sorted(path.name for path in (ROOT / "roles").iterdir())
    assert PROJECT.unknown_kinds() == []


def test_imports_of_shared_packages_get_full_names_and_relative_ones_stay():
    source = "from ansible.module_utils.basic import A\nfrom ansible.module_utils.plumbline.core import marks  # why\nfrom .x import y\n"
    wanted = "from ansible.module_utils.basic import A\nfrom %s.core import marks  # why\nfrom .x import y\n" % HOUSE
    assert python.rewritten(source, PROJECT) == wanted


def test_a_text_that_reads_like_an_import_is_left_alone():
    source = 'said = "from ansible.module_utils.plumbline.core import marks"\n'
    assert python.rewritten(source, PROJECT) == source


def test_a_long_import_gets_a_name_a_line_and_means_the_same():
    names = ", ".join("name_%d" % number for number in range(12))
    changed = python.rewritten(
        "try:\n    from ansible.module_utils.plumbline.core.fact import %s\nexcept ImportError:\n    pass\n" % names, PROJECT
    )
    compile(changed, "changed", "exec")
    assert max(map(len, changed.splitlines())) <= 140 and changed.count("name_") == 12 and HOUSE + ".core.fact" in changed


def test_an_import_that_no_rule_is_there_for_ends_the_build():
    with pytest.raises(Unsafe, match="x.py:1: expected `from"):
        python.rewritten("import ansible.module_utils.plumbline.core.fact\n", PROJECT, "x.py")


def test_the_module_that_an_action_runs_gets_its_full_name():
    source = 'self._execute_module(module_name="node_health", module_args={"module_name": "node_health"})\n'
    assert python.rewritten(source, PROJECT) == source.replace('module_name="node', 'module_name="plumbline.cluster.node')


def test_sentences_name_the_collections_playbooks_and_paths_stay():
    source = 'x = "playbooks/reset.yml"\ny = "run `ansible-playbook site.yml --tags model`, or playbooks/reset.yml; playbooks/other.yml"\n'
    wanted = source.replace("book site.yml", "book plumbline.cluster.site").replace("or playbooks/reset.yml", "or plumbline.cluster.reset")
    assert python.rewritten(source, PROJECT) == wanted


def test_examples_and_documentation_get_full_names():
    source = 'DOCUMENTATION = r"""\nauthor: [Plumbline]\ndescription: see M(ssh_key), M(other)\n"""\n'
    source += 'EXAMPLES = r"""\n- name: Judge\n  node_health:\n"""\n'
    changed = python.rewritten(source, PROJECT)
    assert "M(plumbline.cluster.ssh_key), M(other)" in changed and "\n  plumbline.cluster.node_health:\n" in changed
    assert 'author: ["Plumbline (!UNKNOWN)"]' in changed


TASKS = """---
# node_health: a comment stays
- name: Judge node_health
  block:
    - name: Run it
      node_health:
        paths: [/]   # two blanks stay
      vars:
        node_health: no module
      when: x | locked_mhz > 0
  rescue:
    - name: Take the role
      ansible.builtin.include_role:
        name: gpu_clocks
        tasks_from: reset
    - ansible.builtin.debug:
        msg: "{{ hosts | map('plumbline_gpu_env') | list }} | locked_mhz"
"""


def test_tasks_get_full_names_of_modules_roles_and_filters():
    changed = tasks.rewritten(TASKS.replace(' | locked_mhz"', '"'), PROJECT, "tasks.yml")
    wanted = TASKS.replace(' | locked_mhz"', '"').replace(
        "      node_health:\n        paths", "      plumbline.cluster.node_health:\n        paths"
    )
    wanted = wanted.replace("name: gpu_clocks", "name: plumbline.cluster.gpu_clocks").replace("x | locked", "x | plumbline.cluster.locked")
    assert changed == wanted.replace("map('plumbline_gpu_env')", "map('plumbline.cluster.plumbline_gpu_env')")


def test_what_only_looks_like_a_filter_ends_the_build():
    with pytest.raises(Unsafe, match="something else than the names of filters"):
        tasks.rewritten(TASKS, PROJECT, "tasks.yml")


def test_a_filter_in_a_block_of_text_is_found():
    text = "x: >-\n  {{ a\n     | locked_mhz }}\n"
    assert tasks.rewritten(text, PROJECT, "vars.yml") == text.replace("locked", "plumbline.cluster.locked")


def test_a_template_and_a_name_that_is_full_already():
    text = "{% for a in b | plumbline_addresses(hostvars) %}{{ a | plumbline.cluster.locked_mhz }}{% endfor %} | default"
    assert templates.rewritten(text, PROJECT, "x.j2") == text.replace("| plumbline_addr", "| plumbline.cluster.plumbline_addr")


def test_playbooks_find_their_phases_and_an_inventory_its_plugin():
    assert tasks.rewritten("- import_playbook: playbooks/health.yml\n", PROJECT, "site.yml") == "- import_playbook: health.yml\n"
    text = "plugin: azure_scale_set\nscale_sets: [a]\n"
    assert tasks.rewritten(text, PROJECT, "azure.yml") == text.replace("azure_s", "plumbline.cluster.azure_s")


def test_a_role_that_is_not_there_and_a_task_without_a_rule_end_the_build():
    with pytest.raises(Unsafe, match="'nobody' is no role"):
        tasks.rewritten("- include_role:\n    name: nobody\n", PROJECT, "x.yml")
    with pytest.raises(Unsafe, match="x.yml:1: no rule for local_action"):
        tasks.rewritten("- local_action: node_health\n", PROJECT, "x.yml")

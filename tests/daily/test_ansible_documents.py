"""What the documentation says about Ansible, typed on a control host for the nodes of a lab."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from dvipad.cli import dvipad
from tests.daily.ansible_tools import Ansible
from tests.documents.blocks import Block, of
from tests.e2e.cluster_tools import wait_for_state
from tests.e2e.conftest import MakeCluster

NOT_HERE = "package"
"""Tag of the tasks that install and remove the package: all nodes of a lab are this machine."""
MINE = ("node", "cluster", "xcf", "uplinks", "peers", "profile")
"""Keys of the node file that the role has variables for."""
CONFIGURE = {
    "hosts": "dvipad",
    "connection": "local",
    "gather_facts": False,
    "tasks": [
        {
            "ansible.builtin.include_role": {
                "name": "dvipad.cluster.dvipad",
                "tasks_from": "configure",
            }
        }
    ],
}
"""A play that writes the files of each node, and runs nothing."""


@pytest.mark.parametrize("block", of("yaml inventory"), ids=str)
def test_inventories_make_configurations_without_defect(block: Block, tmp_path: Path) -> None:
    ansible = Ansible(tmp_path)
    collection(ansible)
    path = tmp_path / "inventory.yml"
    path.write_text(block.text)
    book = tmp_path / "book.yml"
    common = {
        "dvipad_folder": f"{tmp_path}/{{{{ inventory_hostname }}}}",
        "ansible_python_interpreter": sys.executable,
        "dvipad_manage_services": False,
    }
    book.write_text(yaml.safe_dump([CONFIGURE | {"vars": common}]))
    done = ansible.command("ansible-playbook", "-i", str(path), str(book))
    assert done.returncode == 0, done.stdout
    files = sorted(tmp_path.glob("*/node.yaml"))
    assert len(files) == len(yaml.safe_load(block.text)["dvipad"]["hosts"])
    assert dvipad.main(["--check", *map(str, files)]) == dvipad.OK


def collection(ansible: Ansible) -> None:
    """Installed as the first block of docs/ansible.md says."""
    first = of("sh ansible")[0]
    done = ansible.type(first.text)
    assert done.returncode == 0, f"{first}: {done.stdout}"


@pytest.mark.e2e
def test_commands_do_what_they_say(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(targets=1)
    ansible = Ansible(tmp_path, cluster)
    collection(ansible)
    variables = {}
    for host in cluster.spec.nodes():
        node = yaml.safe_load(cluster.paths.node_file(host.name).read_text())
        profile = cluster.paths.profile(host.name)
        variables[host.name] = {
            "dvipad_xcf": node["xcf"],
            "dvipad_peers": node["peers"],
            "dvipad_profile": profile.read_text() if profile.exists() else "",
            "dvipad_settings": {key: node[key] for key in node if key not in MINE},
        }
    folder = str(cluster.paths.host("lb1").parent) + "/{{ inventory_hostname }}"
    common = {"dvipad_uplinks": ["eth0"], "dvipad_cluster": cluster.spec.prefix}
    ansible.describe(variables, common | {"dvipad_folder": folder})
    (tmp_path / "work.yml").write_text("- ansible.builtin.command: 'true'\n  changed_when: true\n")
    wait_for_state(cluster, "lb1", "ACTIVE")
    for block in of("sh ansible"):
        done = ansible.type(block.text, ANSIBLE_SKIP_TAGS=NOT_HERE)
        assert done.returncode == 0, f"{block}: {done.stdout}"


@pytest.mark.e2e
def test_tasks_do_what_they_say(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(targets=1)
    ansible = Ansible(tmp_path, cluster)
    collection(ansible)
    wait_for_state(cluster, "lb1", "ACTIVE")
    for number, block in enumerate(of("yaml tasks")):
        book = tmp_path / f"{number}.yml"
        play = {"hosts": "t1", "gather_facts": False, "tasks": yaml.safe_load(block.text)}
        socket = {"dvipad.cluster.dvipad_node": {"socket": "{{ dvipad_socket }}"}}
        book.write_text(yaml.safe_dump([play | {"module_defaults": socket}]))
        outcome = ansible.play(book)
        assert outcome.status == 0, f"{block}: {outcome.output}"

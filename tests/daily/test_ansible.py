"""The Ansible collection on real daemons: drain, resume, wait, check mode, rolling maintenance."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from dvipad.lab.traffic import LongConnections, NewConnections
from tests.daily.ansible_tools import COLLECTION, Ansible
from tests.e2e.cluster_tools import echo_servers, state, wait_for_state, wait_for_targets
from tests.e2e.conftest import MakeCluster

pytestmark = pytest.mark.e2e

PLAYBOOKS = ("site", "maintenance", "uninstall")
CONNECTIONS = 20
NO_ORDERS = {
    "activated": [],
    "deactivated": [],
    "outside": False,
    "paused": [],
    "quiesced": [],
    "weight": None,
}

WORK = """\
- name: Look at the node
  dvipad.cluster.dvipad_info:
    socket: "{{ dvipad_socket }}"
  register: during

- name: See that nothing needs the node
  ansible.builtin.assert:
    that:
      - during.connections == 0
      - during.orders.quiesced == [0]
      - during.view.dvipas | map(attribute='state') | difference(['BACKUP', 'TARGET']) == []

- name: Cut the power of a distributor, and give it back
  ansible.builtin.command: dvipad lab {{ item }} {{ inventory_hostname }}
  loop: [fail, heal]
  when: inventory_hostname.startswith('lb')
  changed_when: true
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, installed as a user would."""
    folder = tmp_path_factory.mktemp("ansible")
    done = Ansible(folder).command(
        "ansible-galaxy", "collection", "install", "-p", str(folder), str(COLLECTION)
    )
    assert done.returncode == 0, done.stdout
    return folder


def test_playbooks_and_documentation_are_well_formed(home: Path) -> None:
    ansible = Ansible(home)
    books = [f"dvipad.cluster.{name}" for name in PLAYBOOKS]
    options = ["--syntax-check", "-e", "dvipad_hosts=all"]
    done = ansible.command("ansible-playbook", *options, *books)
    assert (done.returncode, done.stdout.count("playbook: ")) == (0, 3), done.stdout
    modules = [f"dvipad.cluster.{name}" for name in ("dvipad_node", "dvipad_info")]
    done = ansible.command("ansible-doc", "-t", "module", *modules)
    assert (done.returncode, done.stdout.count("RETURN VALUES")) == (0, 2), done.stdout


def test_rolling_maintenance_loses_nothing(
    make_cluster: MakeCluster, home: Path, tmp_path: Path
) -> None:
    """Both distributors lose their power, one after the other, and a target is emptied, while new
    connections come and long ones of other targets go on."""
    cluster = make_cluster()
    ansible = Ansible(home, cluster)
    dvipa = cluster.spec.dvipa()
    work = tmp_path / "work.yml"
    work.write_text(WORK)
    with echo_servers(cluster):
        new = NewConnections(cluster, "client", dvipa, 80, rate=100)
        outcome = ansible.play("maintenance", dvipad_work=work, dvipad_hosts="lb1:lb2:t1")
        assert outcome.status == 0, outcome.output
        wait_for_targets(cluster, "lb1", 6)
        report = new.stop()
    assert {host: row[2] for host, row in outcome.recap.items()} == {"lb1": 0, "lb2": 0, "t1": 0}
    assert report.failed == {}
    assert set(report.servers) == {"t1", "t2", "t3"}
    assert report.answered == report.started > 100


def test_a_drain_waits_for_its_connections(make_cluster: MakeCluster, home: Path) -> None:
    """Check mode changes nothing; a wait that fails says why; what is done is not done again."""
    cluster = make_cluster(targets=1)
    ansible = Ansible(home, cluster)
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)

        foretold = ansible.module("t1", "dvipad_node", check=True, state="drained")
        assert foretold.values["changed"]
        assert foretold.values["commands"] == ["dvipactl vary sysplex quiesce target"]
        assert foretold.values["orders"]["quiesced"] == [0]
        assert foretold.values["connections"] == CONNECTIONS
        assert foretold.values["diff"] == {"before": "", "after": "quiesced target\n"}
        assert ansible.module("t1", "dvipad_info").values["orders"] == NO_ORDERS

        late = ansible.module("t1", "dvipad_node", state="drained", timeout=1)
        assert late.failed and late.values["changed"]
        left = f"{CONNECTIONS} connections of {dvipa} port 7 left"
        assert late.values["msg"] == f"ordered, but not drained within 1 s: {left}"
        wait_for_targets(cluster, "lb1", 0)

        port = ansible.module("t1", "dvipad_node", state="drained", ports=[80], timeout=5)
        assert (port.failed, port.values["changed"]) == (False, False)

        result = long.stop()
        drained = ansible.module("t1", "dvipad_node", state="drained", timeout=30)
        assert (drained.failed, drained.values["changed"]) == (False, False)
        assert (drained.values["connections"], drained.values["waiting_for"]) == (0, [])

        resumed = ansible.module("t1", "dvipad_node", state="resumed", timeout=30)
        assert resumed.values["commands"] == ["dvipactl vary sysplex resume target"]
        wait_for_targets(cluster, "lb1", 2)
        assert not ansible.module("t1", "dvipad_node", state="resumed").values["changed"]
    assert result.lost() == 0


def test_a_distributor_gives_its_dvipa_and_takes_it_back(
    make_cluster: MakeCluster, home: Path
) -> None:
    cluster = make_cluster()
    ansible = Ansible(home, cluster)
    dvipa = cluster.spec.dvipa()
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", dvipa, 7, connections=CONNECTIONS)
        for state_there, state_back, order in (
            ("drained", "resumed", {"quiesced": [0], "deactivated": [str(dvipa)]}),
            ("left", "joined", {"outside": True}),
        ):
            there = ansible.module("lb1", "dvipad_node", state=state_there, timeout=30)
            assert there.values["changed"] and not there.failed
            assert there.values["orders"] == NO_ORDERS | order
            assert state(cluster, "lb2") == "ACTIVE"
            back = ansible.module("lb1", "dvipad_node", state=state_back, timeout=30)
            assert back.values["orders"] == NO_ORDERS
            assert state(cluster, "lb1") == "ACTIVE"  # it was waited for
        result = long.stop()
    assert result.lost() == 0


def test_maintenance_undoes_a_drain_that_fails(
    make_cluster: MakeCluster, home: Path, tmp_path: Path
) -> None:
    """Connections that do not end: the play stops before anything is done, and the node serves."""
    cluster = make_cluster(targets=1)
    ansible = Ansible(home, cluster)
    work = tmp_path / "work.yml"
    work.write_text(WORK)
    with echo_servers(cluster):
        long = LongConnections(cluster, "client", cluster.spec.dvipa(), 7, connections=CONNECTIONS)
        outcome = ansible.play(
            "maintenance", dvipad_work=work, dvipad_hosts="t1:lb1", dvipad_drain_timeout=1
        )
        wait_for_targets(cluster, "lb1", 2)
        result = long.stop()
    assert outcome.status != 0
    assert f"{CONNECTIONS} connections of {cluster.spec.dvipa()} port 7 left" in outcome.output
    assert "Work on the node" not in outcome.output
    assert list(outcome.recap) == ["t1"]
    assert ansible.module("t1", "dvipad_info").values["orders"] == NO_ORDERS
    assert result.lost() == 0


def test_a_dvipa_without_a_backup_is_kept(make_cluster: MakeCluster, home: Path) -> None:
    cluster = make_cluster(lbs=1, targets=1)
    ansible = Ansible(home, cluster)
    dvipa = cluster.spec.dvipa()
    wait_for_state(cluster, "lb1", "ACTIVE")
    for wanted in ("drained", "left"):
        kept = ansible.module("lb1", "dvipad_node", check=wanted == "left", state=wanted)
        assert kept.failed and f"no other node would take {dvipa}" in kept.values["msg"]
    assert ansible.module("lb1", "dvipad_info").values["orders"] == NO_ORDERS
    assert state(cluster, "lb1") == "ACTIVE"
    forced = ansible.module("lb1", "dvipad_node", state="drained", force=True, timeout=30)
    assert (forced.failed, state(cluster, "lb1")) == (False, "BACKUP")


def test_what_makes_no_sense_is_refused(make_cluster: MakeCluster, home: Path) -> None:
    cluster = make_cluster(lbs=1, targets=1)
    ansible = Ansible(home, cluster)
    for arguments, words in (
        ({"state": "left", "ports": [80]}, "left as a whole"),
        ({"state": "drained", "ports": [0]}, "a number from 1 to 65535"),
        ({"state": "drained", "dvipas": ["192.0.2.1999"]}, "does not appear to be"),
        ({"state": "drained", "dvipas": ["192.0.2.7"]}, "neither defined nor backed up here"),
        ({"state": "drained", "socket": "/nowhere"}, "is dvipad running here"),
    ):
        answer = ansible.module("lb1", "dvipad_node", **arguments)
        assert answer.failed and words in answer.values["msg"], answer.values
    assert ansible.module("lb1", "dvipad_info").values["orders"] == NO_ORDERS


CONFIGURE = """\
- hosts: lb1:t1
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: dvipad.cluster.dvipad
        tasks_from: configure
  handlers:
    - name: Read the profile again
      ansible.builtin.shell: kill -HUP $(cat {{ dvipad_folder }}/daemon.pid)
      when: dvipad_node_file is not changed
      listen: dvipad profile changed
    - name: Restart
      ansible.builtin.debug:
        msg: to be restarted
      listen: dvipad node file changed
"""


def test_the_role_writes_what_the_daemon_follows(
    make_cluster: MakeCluster, home: Path, tmp_path: Path
) -> None:
    """Checked before it is put in place; a new profile is a reload, a new node file a restart."""
    cluster = make_cluster(targets=1)
    ansible = Ansible(home, cluster)
    book = tmp_path / "configure.yml"
    book.write_text(CONFIGURE)
    profile = cluster.paths.profile("lb1").read_text()
    node = yaml.safe_load(cluster.paths.node_file("lb1").read_text())
    taken = ("node", "cluster", "xcf", "uplinks", "peers", "profile")
    variables = {
        "dvipad_folder": str(cluster.paths.host("lb1").parent) + "/{{ inventory_hostname }}",
        "dvipad_cluster": cluster.spec.prefix,
        "dvipad_profile": "{{ the_profile if inventory_hostname == 'lb1' else '' }}",
        "dvipad_uplinks": ["eth0"],
        "dvipad_peers": node["peers"],
        "dvipad_xcf": node["xcf"],
        "dvipad_settings": {key: node[key] for key in node if key not in taken},
    }
    with echo_servers(cluster):
        foretold = ansible.play(book, "--check", the_profile=profile, **variables)
        assert (foretold.status, yaml.safe_load(cluster.paths.node_file("lb1").read_text())) == (
            0,
            node,
        ), foretold.output
        first = ansible.play(book, the_profile=profile, **variables)
        assert first.output.count("to be restarted") == 2, first.output
        again = ansible.play(book, the_profile=profile, **variables)
        assert {row[1] for row in again.recap.values()} == {0}, again.output
        less = profile.replace("PORT 80 7", "PORT 7")
        reload = ansible.play(book, the_profile=less, **variables)
        assert reload.recap["lb1"][1:] == (2, 0) and reload.recap["t1"][1:] == (0, 0)
        wait_for_targets(cluster, "lb1", 1)
        broken = ansible.play(
            book, the_profile=less.replace("VIPADEFINE", "VIPADEFINED"), **variables
        )
        assert broken.recap["lb1"][2] == 1 and "error" in broken.output
    assert "VIPADEFINED" not in cluster.paths.profile("lb1").read_text()

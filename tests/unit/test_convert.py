"""Files of keepalived, HAProxy and IPVS as a profile and a node file."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvipad.cli import dvipad
from dvipad.config.errors import errors
from dvipad.config.model import Backup, Define, DistMethod, Moveable, PortRange, Profile
from dvipad.config.node import NodeConfig, Peer, parse_node
from dvipad.config.profile import parse_profile
from dvipad.convert.result import Converted, convert

KEEPALIVED = """\
! of the primary
global_defs {
    router_id lb1
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 150
    nopreempt
    unicast_src_ip 192.0.2.1
    unicast_peer {
        192.0.2.2
    }
    virtual_ipaddress {
        192.0.2.100/24 dev eth0
        2001:db8::100/64
    }
}
virtual_server 192.0.2.100 80 {
    lvs_sched sh
    protocol TCP
    persistence_timeout 300
    real_server 192.0.2.11 80 {
        weight 2
        TCP_CHECK {
            connect_timeout 3
        }
    }
    real_server 192.0.2.12 8080 {
        weight 1
    }
    real_server 192.0.2.13 80 { weight 0 }
}
virtual_server 192.0.2.100 53 {
    protocol UDP
}
"""
HAPROXY = """\
global
    daemon
defaults
    mode tcp
    timeout connect 5s
frontend https
    bind *:443,:8443
    bind [2001:db8::7]:25 ssl crt /etc/ssl
    default_backend web      # of the DVIPA
backend web
    balance leastconn
    server web1 192.0.2.11:443 check weight 3
    server web2 192.0.2.12:443 check
    server web3 192.0.2.13:443 backup
frontend pages
    mode http
    bind :80
"""
IPVS = """\
-A -t 192.0.2.101:25 -s wlc -p 300
-a -t 192.0.2.101:25 -r 192.0.2.11:25 -i -w 3
-a -t 192.0.2.101:25 -r 192.0.2.12:25 -m -w 5
-a -t 192.0.2.101:25 -r 192.0.2.13:25 -g -w 0
-A -t [2001:db8::9]:25 -s rr
-a -t [2001:db8::9]:25 -r [2001:db8::11]:25 -g -w 1
-A -u 192.0.2.101:53 -s rr
-A -f 7 -s rr
"""


def converted(*texts: str) -> Converted:
    return convert({Path(f"file{number}"): text for number, text in enumerate(texts)})


def profile_of(result: Converted) -> Profile:
    parsed = parse_profile(result.profile, "profile")
    assert not errors(parsed.problems) and parsed.profile is not None
    return parsed.profile


def node_of(result: Converted) -> NodeConfig:
    parsed = parse_node(result.node, "node.yaml", Path())
    assert parsed.node is not None, parsed.problems
    return parsed.node


def lines_left(result: Converted) -> list[int]:
    return [note.line for note in result.notes if "not converted" in str(note)]


def test_keepalived() -> None:
    result = converted(KEEPALIVED)
    profile, node = profile_of(result), node_of(result)
    assert profile.defines == (
        Define(ip_address("192.0.2.100"), 24),
        Define(ip_address("2001:db8::100"), 64, interface="DVIPA2"),
    )
    (served,) = profile.distributes
    assert (served.ports, served.timed_affinity_s) == ((PortRange(80, 80),), 300)
    assert [str(target.xcf) for target in served.targets or ()] == ["192.0.2.11"]
    assert (node.name, str(node.xcf), node.uplinks) == ("lb1", "192.0.2.1", ("eth0",))
    assert node.peers == (Peer(ip_address("192.0.2.2")), Peer(ip_address("192.0.2.11")))
    assert lines_left(result) == [10, 21, 30, 33, 35]  # nopreempt, sh, 8080, weight 0, UDP


def test_a_backup_of_keepalived_has_its_priority_as_rank() -> None:
    text = KEEPALIVED.replace("state MASTER", "state BACKUP").replace("priority 150", "priority 90")
    assert profile_of(converted(text)).backups == (
        Backup(ip_address("192.0.2.100"), 90, Moveable.IMMEDIATE, 24),
        Backup(ip_address("2001:db8::100"), 90, Moveable.IMMEDIATE, 64, "DVIPA2"),
    )


def test_haproxy_takes_the_addresses_of_keepalived() -> None:
    vrrp = KEEPALIVED.split("virtual_server", 1)[0]
    result = converted(vrrp, HAPROXY)
    distributes = profile_of(result).distributes
    assert [(str(each.dvipa), each.ports) for each in distributes] == [
        ("192.0.2.100", (PortRange(443, 443),)),
        ("2001:db8::100", (PortRange(443, 443),)),
    ]
    assert all(each.method is DistMethod.WEIGHTEDACTIVE for each in distributes)
    weights = [target.weight for target in distributes[0].targets or ()]
    assert weights == [3, 1]
    told = "\n".join(str(note) for note in result.notes)
    assert "file1:8: not converted: 'bind [2001:db8::7]:25 ssl crt /etc/ssl': TLS ends" in told
    assert "file1:14: not converted: 'server web3 192.0.2.13:443 backup'" in told
    assert "file1:15: not converted: 'frontend pages': mode http" in told
    assert "file1:5: " not in told  # of defaults nothing is taken, or lost
    assert "'port 8443': no server of it could be converted" in told


def test_ipvs() -> None:
    result = converted(IPVS)
    profile = profile_of(result)
    first, second = profile.distributes
    assert (first.method, first.timed_affinity_s) == (DistMethod.WEIGHTEDACTIVE, 300)
    assert [(str(t.xcf), t.weight) for t in first.targets or ()] == [
        ("192.0.2.11", 3),
        ("192.0.2.12", 5),
    ]
    assert str(second.dvipa) == "2001:db8::9"
    assert lines_left(result) == [4, 7, 8, 0, 0]
    assert "# xcf is not said in these files" in result.node


def test_the_command_writes_two_files_and_overwrites_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, folder = tmp_path / "keepalived.conf", tmp_path / "new"
    source.write_text(KEEPALIVED)
    assert dvipad.main(["convert", str(source), "--out", str(folder)]) == 0
    assert capsys.readouterr().err.count("not converted") == 5
    assert dvipad.main(["--check", str(folder / "node.yaml")]) == 0
    assert dvipad.main(["convert", str(source), "--out", str(folder)]) == 2
    assert "name another folder" in capsys.readouterr().err
    assert dvipad.main(["convert", str(tmp_path / "none")]) == 2
    source.write_text("nothing at all\n")
    assert dvipad.main(["convert", str(source)]) == 2
    assert "no virtual address was found" in capsys.readouterr().err


words = st.sampled_from(sorted({*(KEEPALIVED + HAPROXY + IPVS).split(), "{", "}", '"', "\0", "٣"}))
lines = st.lists(words, max_size=6).map(" ".join)
texts = st.lists(lines | st.sampled_from((KEEPALIVED + HAPROXY + IPVS).splitlines()), max_size=40)


@settings(deadline=None, max_examples=200)
@given(texts.map("\n".join) | st.text(max_size=200))
def test_nothing_crashes_it(text: str) -> None:
    result = converted(text)
    parse_profile(result.profile, "profile")
    parse_node(result.node, "node.yaml", Path())

"""keepalived as a rival: VRRP moves one address between two hosts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dvipad.address import Address
from dvipad.lab.cluster import Cluster
from dvipad.lab.spec import UPLINK, LabError

ROUTER_ID: Final = 51
# The backup waits 3 adverts and (256 - priority) / 256 of one (RFC 5798, 6.1): the highest
# priorities that are not the address owner's make its wait the shortest that there is.
MASTER_PRIORITY: Final = 254
BACKUP_PRIORITY: Final = 253


@dataclass(frozen=True, slots=True)
class Vrrp:
    """One virtual router: `advert_s` None leaves keepalived's own default (1 s)."""

    address: Address
    advert_s: float | None = None

    def config_text(self, host: str, *, master: bool) -> str:
        """keepalived.conf of one of the two hosts."""
        length = 32 if self.address.version == 4 else 128
        interval = [] if self.advert_s is None else [f"  advert_int {self.advert_s:g}"]
        # The first address of an IPv6 router must be a link-local one (RFC 5798, 5.2.9).
        local = [f"    fe80::{ROUTER_ID}/64"] if self.address.version == 6 else []
        return "\n".join(
            [
                "global_defs {",
                f"  router_id {host}",
                "  vrrp_version 3",  # version 2 knows no adverts below a second
                "}",
                "vrrp_instance dvipa {",
                f"  state {'MASTER' if master else 'BACKUP'}",
                f"  interface {UPLINK}",
                f"  virtual_router_id {ROUTER_ID}",
                f"  priority {MASTER_PRIORITY if master else BACKUP_PRIORITY}",
                *interval,
                "  virtual_ipaddress {",
                *local,
                f"    {self.address}/{length}",
                "  }",
                "}",
                "",
            ]
        )


class Keepalived:
    """keepalived on a host of a lab, in the foreground; it dies with the host."""

    def __init__(self, cluster: Cluster, host: str, vrrp: Vrrp, *, master: bool) -> None:
        """Start; :meth:`check` tells whether it runs."""
        folder = cluster.paths.host(host) / "keepalived"
        folder.mkdir(exist_ok=True)
        config = folder / "keepalived.conf"
        config.write_text(vrrp.config_text(host, master=master))
        self.host = host
        self._log = folder / "keepalived.log"
        argv = ["keepalived", "-n", "-l", "-D", "-P", "-f", str(config)]
        argv += ["-p", str(folder / "main.pid"), "-r", str(folder / "vrrp.pid")]
        with self._log.open("a") as output:
            self.process = cluster.popen(host, argv, stdout=output, stderr=output)

    def check(self) -> None:
        """Raises :class:`LabError` with its last words if it has ended."""
        if self.process.poll() is not None:
            words = self._log.read_text(errors="replace")[-1000:]
            raise LabError(f"keepalived on {self.host} ended: {words}")

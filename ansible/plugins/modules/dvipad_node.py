#!/usr/bin/python
"""Drains a node of dvipad, resumes it, and waits until that is so."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dvipad.cluster.plugins.module_utils import plan
from ansible_collections.dvipad.cluster.plugins.module_utils.control import (
    SOCKET_OPTION,
    Control,
    NoAnswer,
)

DOCUMENTATION = """
---
module: dvipad_node
short_description: Drain and resume a node of dvipad
description:
  - Gives the orders of C(dvipactl vary sysplex) to the daemon of the host on which it runs, those
    that are not in force yet, and waits until they are carried out.
  - A node that is drained loses no connection. Those that it has go on until they end.
options:
  state:
    description:
      - V(drained), no new connections (quiesce), and its DVIPAs are given to their backups
        (deactivate). Outlives a restart of the daemon, not of the host.
      - V(resumed), undoes V(drained).
      - V(paused), no new connections; outlives a restart of the host.
      - V(unpaused), undoes V(paused).
      - V(left), owns nothing and serves nothing (leavegroup).
      - V(joined), undoes V(left) (joingroup).
    type: str
    required: true
    choices: [drained, resumed, paused, unpaused, left, joined]
  ports:
    description:
      - Only these ports of the target; then no DVIPA is moved unless O(dvipas) names it.
      - None, the whole target.
    type: list
    elements: int
    default: []
  dvipas:
    description:
      - The DVIPAs that V(drained) gives up and V(resumed) takes back.
      - By default all that the profile defines or backs up, and all that are deactivated.
    type: list
    elements: str
  wait:
    description:
      - Return when V(drained), V(paused) and V(left) leave no connection of a DVIPA on the node (of
        O(ports), if given) and the DVIPAs are given up. After the others, when the node is a member
        of its cluster without a trouble, and has again what it is the primary of.
    type: bool
    default: true
  timeout:
    description: Seconds to wait; the task then fails, and its orders stay in force.
    type: float
    default: 600
  force:
    description: Give up also a DVIPA that no other node would take. It is then nowhere.
    type: bool
    default: false
  socket:
    description: The daemon's control socket. Without it E(DVIPAD_SOCKET) counts.
    type: path
    default: /run/dvipad/control.sock
requirements: [python >= 3.11 on the node]
notes:
  - Needs root, C(become).
attributes:
  check_mode: {support: full, description: "Says which orders are missing, and does not wait."}
  diff_mode: {support: full, description: "Orders in force, before and after."}
author: [dvipad (@dvipad)]
"""

EXAMPLES = """
- name: Drain the node
  dvipad.cluster.dvipad_node:
    state: drained
    timeout: 900

- name: No new HTTP connections, without a wait
  dvipad.cluster.dvipad_node:
    state: drained
    ports: [80, 443]
    wait: false

- name: Serve again
  dvipad.cluster.dvipad_node:
    state: resumed
"""

RETURN = """
commands:
  description: The orders that were given, or would be in check mode, as one would type them.
  type: list
  elements: str
  returned: always
  sample: [dvipactl vary sysplex quiesce target]
orders:
  description: The orders that are in force afterwards; port 0 is the whole target.
  type: dict
  returned: always
connections:
  description: Connections of DVIPAs that end on the node, of O(ports) if given.
  type: int
  returned: always
dvipas:
  description: The DVIPAs of the node, as C(dvipactl netstat vipadyn --json) has them.
  type: list
  elements: dict
  returned: always
waiting_for:
  description: What is not as it should be yet; nothing after a wait that succeeded.
  type: list
  elements: str
  returned: always
"""

POLL_S = 0.2
LOOKS = 2
"""A node counts as drained when it was seen so twice in a row: what the distributor sent before it
heard of the order may still be on its way at the first look."""


def wait(control: Control, wish: plan.Wish, timeout_s: float) -> tuple[plan.Seen, list[str]]:
    """Until nothing hinders, or `timeout_s` is over: what was seen last, and what still hinders."""
    deadline, calm = time.monotonic() + timeout_s, 0
    while True:
        seen = control.look()
        hindered = plan.hindrances(wish, seen)
        calm = 0 if hindered else calm + 1
        if calm == LOOKS or time.monotonic() >= deadline:
            return seen, hindered
        time.sleep(POLL_S)


def carry_out(module: AnsibleModule, wanted: plan.Wish) -> None:
    """Give the orders that are missing, and end the module."""
    control = Control(module.params["socket"])
    seen = control.look()
    wish = plan.resolve(wanted, seen)
    lost = [] if module.params["force"] else plan.lost(wish, seen)
    if lost:
        raise plan.WrongWish(
            f"no other node would take {', '.join(lost)}: let one back it up (VIPABACKUP), start "
            "it, or say `force: true` to be without"
        )
    missing = plan.requests(wish, seen)
    before, orders = seen.orders, plan.after(seen.orders, missing)
    result: dict[str, Any] = {
        "changed": bool(missing),
        "commands": [plan.words(request) for request in missing],
        "diff": {"before": plan.listed(before), "after": plan.listed(orders)},
    }
    hindered = plan.hindrances(wish, seen)
    if not module.check_mode:
        for request in missing:
            control.ask("vary", **request)
        timeout_s = module.params["timeout"] if module.params["wait"] else 0.0
        seen, hindered = wait(control, wish, timeout_s)
        orders = seen.orders
    result |= {
        "orders": orders,
        "connections": seen.connections(wish.ports),
        "dvipas": seen.view["dvipas"],
        "waiting_for": hindered,
    }
    if hindered and module.params["wait"] and not module.check_mode:
        limit = f"{module.params['timeout']:g} s"
        module.fail_json(
            msg=f"ordered, but not {wish.state} within {limit}: {'; '.join(hindered)}", **result
        )
    module.exit_json(**result)


def main() -> None:
    """The module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": list(plan.STATES)},
            "ports": {"type": "list", "elements": "int", "default": []},
            "dvipas": {"type": "list", "elements": "str"},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 600},
            "force": {"type": "bool", "default": False},
            "socket": SOCKET_OPTION,
        },
        supports_check_mode=True,
    )
    dvipas = module.params["dvipas"]
    wish = plan.Wish(
        module.params["state"],
        tuple(module.params["ports"]),
        None if dvipas is None else tuple(dvipas),
    )
    try:
        carry_out(module, wish)
    except (NoAnswer, plan.WrongWish) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()

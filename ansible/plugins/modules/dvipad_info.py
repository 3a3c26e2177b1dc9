#!/usr/bin/python
"""Tells what a node of dvipad sees; changes nothing."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.dvipad.cluster.plugins.module_utils import plan
from ansible_collections.dvipad.cluster.plugins.module_utils.control import (
    SOCKET_OPTION,
    Control,
    NoAnswer,
)

DOCUMENTATION = """
---
module: dvipad_info
short_description: What a node of dvipad sees
description:
  - The reports of the daemon of the host on which it runs; it changes nothing.
options:
  socket:
    description:
      - A socket of the daemon. C(view.sock) in the same folder does as well, and is open to the
        group of the daemon's user. Without it E(DVIPAD_SOCKET) counts.
    type: path
    default: /run/dvipad/control.sock
requirements: [python >= 3.11 on the node]
attributes:
  check_mode: {support: full, description: Changes nothing.}
author: [dvipad (@dvipad)]
"""

EXAMPLES = """
- name: Wait until the node is ready
  dvipad.cluster.dvipad_info:
  register: seen
  until: seen is success and seen.ready
  retries: 30
  delay: 2
"""

RETURN = """
ready:
  description: The node is a healthy member of its cluster, and has what it is the primary of.
  type: bool
  returned: success
waiting_for:
  description: Why it is not ready.
  type: list
  elements: str
  returned: success
view:
  description: Members, DVIPAs, targets and troubles, as the node sees them.
  type: dict
  returned: success
orders:
  description: The operator's orders in force; port 0 is the whole target.
  type: dict
  returned: success
connections:
  description: Connections of DVIPAs that end on the node.
  type: int
  returned: success
ending:
  description: The same by DVIPA and port.
  type: list
  elements: dict
  returned: success
"""


def main() -> None:
    """The module."""
    module = AnsibleModule({"socket": SOCKET_OPTION}, supports_check_mode=True)
    try:
        seen = Control(module.params["socket"]).look()
    except NoAnswer as error:
        module.fail_json(msg=str(error))
    hindered = plan.unready(seen)
    module.exit_json(
        changed=False,
        ready=not hindered,
        waiting_for=hindered,
        view=seen.view,
        orders=seen.orders,
        connections=seen.connections(),
        ending=seen.ending,
    )


if __name__ == "__main__":
    main()

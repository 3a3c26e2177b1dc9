"""From files of keepalived, HAProxy and IPVS to a profile and a node file."""

; A profile for the node that stands by for the one of primary.profile.

VIPADYNAMIC

  ; Takes these two over when their owner dies, and gives them back when it returns.

  VIPABACKUP 200 MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100 192.0.2.101

  ; And owns one itself, which the other node backs up.

  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.102

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.102
    PORT 25 587
    DESTIP ALL

  ; Without a VIPADISTRIBUTE of its own for 192.0.2.100 this node distributes it as its owner
  ; did. With one, as here for 192.0.2.101, its own counts while it has the address.

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.101
    PORT 3306 5432
    DESTIP 192.0.2.12
           192.0.2.13

ENDVIPADYNAMIC

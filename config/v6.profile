; IPv6: an address takes an interface name (at most 16 characters, any case) in place of a mask,
; and the length of its prefix behind a slash. Other statements may use the name or the address.

VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE WEB6 2001:db8:0:1::100/64
  VIPABACKUP 100 MOVEABLE IMMEDIATE MAIL6 2001:db8:0:1::102/64
  VIPARANGE DEFINE APPS6 2001:db8:0:1:a::/80

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN WEB6
    PORT 80 443
    DESTIP ALL

  ; Only some nodes, by their XCF addresses (those may be IPv4 as well, but all of one family).

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 2001:db8:0:1::100
    PORT 5432
    DESTIP 2001:db8:0:1::11 2001:db8:0:1::12
ENDVIPADYNAMIC

; A profile for the node that owns two addresses and spreads their connections over a cluster.
;
;   dvipad --check primary.profile      tells everything that is wrong with it
;   dvipad --show  primary.profile      prints it as dvipad understands it
;
; The rules in short: ';' starts a comment, but only after a blank. Keywords may be in any case
; and may be shortened to the capitals of VIPADEFine, VIPABackup, VIPADISTribute, DISTMethod ...
; A statement may go over several lines; it ends where the next one starts.

VIPADYNAMIC

  ; --- Addresses this node owns whenever it is up (a DVIPA needs one VIPADEFINE in the cluster).
  ; The mask is that of the LAN. MOVEABLE IMMEDIATE: when this node comes back after a failure,
  ; it takes the address back at once, and the connections go on.

  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.100 192.0.2.101

  ; --- An address of the other node: this one takes it over when that one dies. Of several
  ; backups the one with the highest rank (1-254) goes first. With MOVEABLE and the mask it also
  ; starts the address when the whole cluster was down and the owner does not come back.

  VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 192.0.2.102

  ; --- Addresses that applications or operators may activate by themselves.

  VIPARANGE DEFINE MOVEABLE NONDISRUPTIVE 255.255.255.240 192.0.2.192

  ; --- Who gets the connections. Web traffic goes to every node that has a listener, the
  ; nodes that join later included, in turn.

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.100
    PORT 80 443 8000-8010
    DESTIP ALL

  ; Three nodes of different size: out of ten connections one, three and six. DESTIP lists XCF
  ; addresses, which are those behind 'xcf:' in the node files. (WEIGHT also works with
  ; DISTMETHOD WEIGHTEDACTIVE, which keeps the open connections in proportion, not the new ones.)

  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN 192.0.2.101
    PORT 5432
    DESTIP 192.0.2.11 WEIGHT 10
           192.0.2.12 WEIGHT 30
           192.0.2.13 WEIGHT 60

  ; A database that must run in one place at a time. AUTOAFFINITY keeps a client where it is
  ; as long as it has a connection open.

  VIPADISTRIBUTE DISTMETHOD HOTSTANDBY NOAUTOSWITCHBACK AUTOAFFINITY 192.0.2.101
    PORT 3306
    DESTIP 192.0.2.11 PREFERRED
           192.0.2.12 BACKUP 200
           192.0.2.13 BACKUP 100

ENDVIPADYNAMIC

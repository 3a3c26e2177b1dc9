; The short forms: no options, lists with or without commas, keywords shortened as far as it goes.

vipadynamic
  vipadef move immed 255.255.255.0 198.51.100.10
  vipab 30 198.51.100.11                    ; only takes over, never starts it: --check warns
  vipadist 198.51.100.10 port 60 destip 198.51.100.1, 198.51.100.2, 198.51.100.4
  vipadist 198.51.100.11 destip all         ; no PORT: every port
  vipar move nondisrupt 255.255.255.224 198.51.100.64
endvipadynamic

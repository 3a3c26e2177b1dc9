#!/bin/bash
# provision.sh NAME ADDRESS DVIPA NODE_ADDRESS,… [SETTINGS]: makes a fresh Debian 12 what its name
# says, as root. SETTINGS: more lines for the node file.
# A node has the package in /tmp/dvipad.deb, the host of Prometheus its files in /tmp/prometheus.
set -euo pipefail

name=$1 address=$2 dvipa=$3 nodes=$4 settings=${5:-}
export DEBIAN_FRONTEND=noninteractive

# install PACKAGE…: those that are not there; a machine that has all needs no archive.
install_packages() {
    if ! dpkg-query --show --showformat='${db:Status-Status}\n' "$@" 2>/dev/null |
        awk '$1 != "installed" { exit 1 } { n++ } END { exit n != '$#' }'; then
        apt-get update -qq
        apt-get install -qq --yes --no-install-recommends "$@" >/dev/null
    fi
}

# node [PROFILE]: the package and its configuration; the daemon runs.
node() {
    local interface peers
    interface=$(ip -o address show to "$address/32" | awk '{ print $2; exit }')
    peers=$(tr , '\n' <<<"$nodes" | grep -Fxv "$address" | paste -sd ,)
    dpkg --status dvipad >/dev/null 2>&1 || apt-get install -qq --yes /tmp/dvipad.deb >/dev/null
    {
        echo "node: $name"
        echo "cluster: vagrant"
        echo "xcf: $address"
        echo "uplinks: [$interface]"
        echo "peers: [$peers]"
        [ $# -eq 0 ] || echo "profile: profile"
        echo "$settings"
    } >/etc/dvipad/node.yaml
    [ $# -eq 0 ] || echo "$1" >/etc/dvipad/profile
    dvipad --check /etc/dvipad/node.yaml
    systemctl enable --quiet --now dvipad
    systemctl enable --quiet --now dvipad-web
}

case $name in
lb1)
    targets=$(tr , '\n' <<<"$nodes" | tail -n +3 | paste -sd ' ')
    node "VIPADYNAMIC
  VIPADEFINE MOVEABLE IMMEDIATE 255.255.255.0 $dvipa
  VIPADISTRIBUTE DISTMETHOD ROUNDROBIN $dvipa PORT 80 DESTIP $targets
ENDVIPADYNAMIC"
    ;;
lb2)
    node "VIPADYNAMIC
  VIPABACKUP 100 MOVEABLE IMMEDIATE 255.255.255.0 $dvipa
ENDVIPADYNAMIC"
    ;;
t[0-9])
    install_packages nginx-light
    echo "$name" >/var/www/html/index.html
    systemctl enable --quiet --now nginx
    node
    ;;
client)
    install_packages curl
    ;;
prometheus)
    install_packages prometheus
    if [ -d /tmp/prometheus ]; then
        install -m 0644 -t /etc/prometheus /tmp/prometheus/*.yml
        {
            sed '/static_configs:/q' /tmp/prometheus/prometheus.yml
            for node in ${nodes//,/ }; do
                echo "      - targets: [\"$node:4781\"]"
                echo "        labels: {cluster: vagrant, instance: \"$node\"}"
            done
        } >/etc/prometheus/prometheus.yml
        systemctl restart prometheus
    fi
    ;;
*)
    echo "provision.sh: no role for $name" >&2
    exit 2
    ;;
esac

#!/bin/busybox sh
# First process of the virtual machine: this machine's files read-only, what is written in memory.
# /settings sets MODULES (the folder of the kernel's modules), COPIES (an archive of files to have in
# memory) and MEMORY (of the writable layer).
busybox=/bin/busybox
$busybox mkdir -p /proc /sys /dev /host /rw /new
$busybox mount -t proc proc /proc
$busybox mount -t sysfs sysfs /sys
$busybox mount -t devtmpfs dev /dev
while read -r module; do
    $busybox insmod "/modules/$module"
done </modules/order
exec </dev/null >/dev/hvc0 2>&1
$busybox stty -F /dev/hvc0 raw
. /settings

set -e
$busybox mount -t virtiofs -o ro rootfs /host
$busybox mount -t tmpfs -o "size=$MEMORY" rw /rw
$busybox mkdir /rw/upper /rw/work
$busybox tar -x -f "/host$COPIES" -C /rw/upper
$busybox mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work root /new
for place in proc sys dev; do
    $busybox mount -o move "/$place" "/new/$place"
done
for place in run dev/shm; do
    $busybox mkdir -p "/new/$place"
    $busybox mount -t tmpfs tmpfs "/new/$place"
done
$busybox mkdir -p /new/dev/pts /new/lib/modules /new/run/netns
$busybox mount -t devpts devpts /new/dev/pts
$busybox mount -t bpf bpf /new/sys/fs/bpf
$busybox mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$busybox mount -t tracefs tracefs /new/sys/kernel/tracing
$busybox mount -o bind "/new$MODULES" /new/lib/modules
$busybox ip link set lo up
$busybox hostname vmlab
$busybox cp /job /new/run/vmlab-job
exec $busybox switch_root /new /bin/bash /run/vmlab-job

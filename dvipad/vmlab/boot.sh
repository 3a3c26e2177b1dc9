#!/bin/busybox sh
# First process of a virtual machine with a disk: its modules, then systemd from the disk.
busybox=/bin/busybox
$busybox mkdir -p /proc /dev /new
$busybox mount -t proc proc /proc
$busybox mount -t devtmpfs dev /dev
while read -r module; do
    $busybox insmod "/modules/$module"
done </modules/order
until [ -b /dev/vda ]; do $busybox usleep 20000; done
$busybox mount -t ext4 /dev/vda /new
$busybox mount -o move /dev /new/dev
$busybox umount /proc
exec $busybox switch_root /new /lib/systemd/systemd

#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0
# First program of the virtual machine: load the modules it takes to see the
# disks, lay a tmpfs over the shared read-only root, and go on in the checkout.
export PATH=/bin
/bin/busybox --install -s /bin

fail() {
	echo "iser-lab: initramfs: $1" > /dev/kmsg
	echo o > /proc/sysrq-trigger
	sleep 10
	reboot -f
}

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev

while read -r module; do
	insmod "/modules/$module" || fail "cannot load $module"
done < /modules/order

tries=0
until [ -b /dev/vdb ]; do
	tries=$((tries + 1))
	[ "$tries" -gt 100 ] && fail "no disk /dev/vdb"
	sleep 0.1
done

mount -t ext4 -o ro,noload /dev/vda /lower || fail "cannot mount the guest root"
mount -t ext4 -o ro,noload /dev/vdb /modimg || fail "cannot mount the modules"
mount -t tmpfs -o size=75% rw /rw || fail "cannot mount a tmpfs"
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/modimg:/lower,upperdir=/rw/upper,workdir=/rw/work overlay /newroot ||
	fail "cannot mount the overlay"

# iser.src=PATH and iser.out=PATH are the mount points of the two shares.
read -r words < /proc/cmdline
for word in $words; do
	case $word in
	iser.src=*) src=${word#*=} ;;
	iser.out=*) out=${word#*=} ;;
	esac
done

# The shares come last: their mount points may lie below any of the others.
for dir in proc sys dev; do
	mount -o bind "/$dir" "/newroot/$dir"
done
mkdir -p /newroot/dev/pts /newroot/dev/shm
mount -t devpts -o gid=5,mode=620 devpts /newroot/dev/pts
mount -t tmpfs -o mode=1777 shm /newroot/dev/shm
mount -t tmpfs -o mode=0755 run /newroot/run
mount -t tmpfs -o mode=1777 tmp /newroot/tmp
mkdir -p "/newroot$src" "/newroot$out"
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose src "/newroot$src" ||
	fail "cannot mount the checkout"
mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 out "/newroot$out" ||
	fail "cannot mount the results directory"

umount -l /dev /sys /proc
exec switch_root /newroot /bin/sh "$src/scripts/lab/guest/init.sh" "$src" "$out"

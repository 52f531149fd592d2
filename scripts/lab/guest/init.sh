#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
# Process 1 of the virtual machine: mount the last file systems of the kernel,
# run one command with its output on the virtio port, and report how it ended.
# Arguments: the checkout and the results directory; the command and its
# environment lie in the latter, as the files `command` and `environment`.
src=$1 out=$2
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 ISER_SRC="$src" ISER_OUT="$out" ISER_GUEST=1
export PYTHONPATH="$src/scripts" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1

mount -t configfs configfs /sys/kernel/config 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mkdir -p /run/lock /run/iser
ln -sfn /proc/self/fd /dev/fd
ln -sfn /proc/self/fd/0 /dev/stdin
ln -sfn /proc/self/fd/1 /dev/stdout
ln -sfn /proc/self/fd/2 /dev/stderr
ip link set lo up 2>/dev/null
hostname "$(cat "$out/hostname" 2>/dev/null || echo iser)"
echo 1 > /proc/sys/kernel/sysrq

port=
for dir in /sys/class/virtio-ports/*; do
	[ "$(cat "$dir/name" 2>/dev/null)" = iser ] && port=/dev/${dir##*/}
done

cd "$src" || exit
echo "<6>iser-lab: booted" > /dev/kmsg
# shellcheck source=/dev/null
. "$out/environment"
# The user's command, one shell line, quoted by the host.
if [ -e "$out/interactive" ]; then
	setsid -c sh "$out/command" < /dev/hvc0 > /dev/hvc0 2>&1
else
	sh "$out/command" < /dev/null > "${port:-/dev/ttyS0}" 2>&1
fi
status=$?
dmesg > "$out/dmesg" 2>/dev/null
cp /run/iser/*.log "$out/" 2>/dev/null
echo "$status" > "$out/status.new"
mv "$out/status.new" "$out/status"
sync
# QEMU ends at a reset (-no-reboot). A kernel without ACPI cannot power off.
echo b > /proc/sysrq-trigger
# Nothing from the disk may be needed now.
while :; do :; done

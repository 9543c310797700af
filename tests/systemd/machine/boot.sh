# Boots systemd as PID 1 of a machine that is made of namespaces, and cleans up after it.
#
#   unshare --mount sh boot.sh <lower root> <notify socket> [<file> <name>]...
#
# The root is an overlay on <lower root>, and each <file> stands in it as /usr/local/bin/<name>. The
# machine lives until standard input ends, which happens at the latest when whoever holds the other
# end is killed. One line is printed: the pid that the machine's PID 1 has out here.
set -eu

if [ "$1" != inside ]; then
    # Seen by the processes of this machine only, and gone with the last of them. On a folder that
    # every system has and nothing in here needs.
    mount --make-rprivate /
    mount -t tmpfs -o mode=755 machine /boot
    cd /boot
    mkdir cgroup upper work root
    mount -t cgroup2 cgroup2 cgroup
    groups=/boot/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
    empty() {
        grep -q "populated 0" "$1/cgroup.events"
    }
    remove() {
        # A process that has ended and was waited for leaves its group a moment later.
        looks=0
        until empty "$1" || [ $looks = 200 ]; do
            looks=$((looks + 1))
            sleep 0.05
        done
        find "$1" -depth -type d -exec rmdir {} +
    }
    # What a machine whose keeper was killed has left. One of another PID namespace has no pid here.
    for group in "$groups"/handover-machine-*; do
        [ ! -d "$group" ] || [ -d "/proc/${group##*-}" ] || ! empty "$group" || remove "$group" || :
    done
    group=$groups/handover-machine-$$
    mkdir "$group"
    # In a group of its own before `--cgroup` makes that group the root of all that PID 1 sees.
    setpriv --pdeathsig KILL sh -c '
        set -eu
        echo $$ >"$1/cgroup.procs"
        shift
        exec unshare --fork --kill-child=KILL --pid --mount --uts --ipc --cgroup sh "$0" inside "$@"
    ' "$0" "$group" "$@" </dev/null &
    child=$!
    cat >/dev/null
    # With PID 1 the kernel ends all others; only then does `unshare` see the end of its child.
    kill -KILL "$(cat pid || echo $child)" || :
    wait $child || :
    remove "$group"
    exit
fi

lower=$2 notify=$3 root=/boot/root
shift 3
# /proc is still that of the outside.
read -r pid rest </proc/self/stat
echo "$pid" >pid
mount --make-rprivate /
hostname machine
mount -t overlay -o "lowerdir=$lower,upperdir=/boot/upper,workdir=/boot/work" overlay $root
mount -t proc proc $root/proc
# The network namespace is shared, and so are most settings of the kernel.
mount --bind $root/proc/sys $root/proc/sys
mount -o remount,bind,ro $root/proc/sys
mount -t sysfs -o ro sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
# No more devices than a container has: systemd makes links in here, and writes to the console.
mount -t tmpfs -o mode=755 tmpfs $root/dev
for node in null zero full random urandom tty; do
    touch $root/dev/$node
    mount --bind /dev/$node $root/dev/$node
done
ln -s pts/ptmx $root/dev/ptmx
mount -t tmpfs -o mode=755 tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
while [ $# -gt 0 ]; do
    touch "$root/usr/local/bin/$2"
    mount --bind "$1" "$root/usr/local/bin/$2"
    shift 2
done

# What a machine without hardware does not need, and what would change the kernel outside.
for unit in apt-daily.timer dev-hugepages.mount dev-mqueue.mount ldconfig.service modprobe@.service \
    sys-kernel-debug.mount sys-kernel-tracing.mount systemd-journal-catalog-update.service \
    systemd-modules-load.service systemd-remount-fs.service systemd-sysctl.service \
    systemd-update-utmp.service systemd-udevd.service timers.target; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
mkdir -p $root/etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\nAudit=no\n' >$root/etc/systemd/journald.conf.d/tests.conf
tr -d - </proc/sys/kernel/random/uuid >$root/etc/machine-id
echo "$pid"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=handover-tests NOTIFY_SOCKET="$notify" \
    chroot $root /lib/systemd/systemd --unit=basic.target --show-status=0 >/dev/null

#!/bin/sh
# Turns a process in fresh namespaces into a lab node and becomes its PID 1. Started by the module lab_node as
#   unshare --mount --uts --ipc --net --pid --fork --propagation private /bin/sh node-init.sh
# with these variables (paths are the machine's):
#   PLUMBLINE_LAB_NODE  the node's folder          NODE_NAME    its hostname
#   NODE_ROOTFS         the shared root, read only; "/" for the machine's own
#   NODE_ENV            the shared vLLM environment, "" for none
#   NODE_DISK           "loop" or "tmpfs"          NODE_SIZE    size of its disk, bytes
#   NODE_SHM            size of its /dev/shm, bytes
#   NODE_ENGINE         folder with start-engine, "" for no Docker engine
#   NODE_IMAGE          the shared image for it, "" for none
#   NODE_CGROUP         the cgroup, from the top, of its containers
# and where NODE_ROOTFS is the machine's own root:
#   NODE_DEVICES        device files and folders for it, beside the usual ones, by spaces
#   NODE_HIDDEN         folders of the machine that it must not see, by newlines
#   NODE_SSHD           path of sshd
# In its folder are then `mounts` (lines: bind or overlay, tab, mount point), `sshd_config` and `environment`.
# Everything mounted here lives in the node's mount namespace: when PID 1 dies, all of it is gone.
set -eu
umask 022
dir=$PLUMBLINE_LAB_NODE
root=/run/plumbline-root
machine=
[ "$NODE_ROOTFS" != / ] || machine=yes
state=/run/plumbline-disk

echo "$NODE_NAME" > /proc/sys/kernel/hostname

# A private /run to work in: nothing is made on the machine's own file systems.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir "$root" "$state"
if [ "$NODE_DISK" = loop ]; then
    mount -o loop,discard,noatime "$dir/disk.img" "$state"
else
    mount -t tmpfs -o "mode=755,size=$NODE_SIZE" tmpfs "$state"
fi
mkdir -p "$state/upper" "$state/work" "$state/docker"
mount -t overlay -o "lowerdir=$NODE_ROOTFS,upperdir=$state/upper,workdir=$state/work" overlay "$root"
cd "$root"

# The machine's file systems below / are empty folders in the overlay. Then what must be the node's own: Plumbline's records, /tmp.
bring_machine() {
    number=0
    while IFS='	' read -r kind point; do
        number=$((number + 1))
        here=$root$point
        if [ -d "$point" ]; then mkdir -p "$here"; elif [ ! -e "$here" ]; then mkdir -p "$(dirname "$here")"; : > "$here"; fi
        if [ "$kind" = overlay ]; then
            mkdir -p "$state/more/$number" "$state/more/$number.work"
            mount -t overlay -o "lowerdir=$point,upperdir=$state/more/$number,workdir=$state/more/$number.work" overlay "$here"
        else
            mount --bind "$point" "$here"
            # What a mount forbids (nosuid, ...) must be repeated by some kernels; a mount that stays writable is said.
            mount -o remount,bind,ro "$here" || echo "warning: $point is not read-only in this node"
        fi
    done < "$dir/mounts"
    mkdir -p "$state/plumbline" "$state/tmp" var/lib/plumbline tmp etc/ssh root
    chmod 1777 "$state/tmp"
    mount --bind "$state/plumbline" var/lib/plumbline
    mount --bind "$state/tmp" tmp
    echo "$NODE_HIDDEN" | while IFS= read -r folder; do
        [ ! -d "$root$folder" ] || mount -t tmpfs -o mode=700,size=64k tmpfs "$root$folder"
    done
    rm -f etc/hosts etc/hostname
    # The machine's identity is not the node's: the same at each start.
    rm -f etc/machine-id
    printf %s "$dir" | md5sum | cut -c 1-32 > etc/machine-id
    # sshd's unprivileged half runs as this user, and a locked root could not log in.
    grep -q '^sshd:' etc/passwd || echo 'sshd:x:65022:65534::/run/sshd:/usr/sbin/nologin' >> etc/passwd
    [ ! -e etc/shadow ] || sed -i 's/^root:!*:/root:*:/; s/^root:!/root:/' etc/shadow
}
if [ -n "$machine" ]; then bring_machine; fi # not `||`: that would go on after an error

mkdir -p .old proc sys dev run var/lib/docker opt/plumbline/vllm
mount --bind "$state/docker" var/lib/docker # an engine in the node cannot keep its layers on an overlay

if [ -n "$NODE_ENV" ]; then
    mount --bind "$NODE_ENV" opt/plumbline/vllm
    mount -o remount,bind,ro opt/plumbline/vllm
fi

rm -rf usr/local/lib/plumbline-engine
if [ -n "$NODE_ENGINE" ]; then
    mkdir -p usr/local/lib usr/local/sbin
    cp -R "$NODE_ENGINE" usr/local/lib/plumbline-engine
    chmod -R u=rwX,go=rX usr/local/lib/plumbline-engine
    echo "$NODE_CGROUP" > usr/local/lib/plumbline-engine/cgroup
    ln -sf /usr/local/lib/plumbline-engine/start-engine usr/local/sbin/start-engine
fi
if [ -n "$NODE_IMAGE" ]; then
    mkdir -p opt/plumbline/image
    mount --bind "$NODE_IMAGE" opt/plumbline/image
    mount -o remount,bind,ro opt/plumbline/image
fi

mount -t proc proc proc
mount -t sysfs sysfs sys # of this network namespace
[ -d /sys/fs/cgroup ] && mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=755,size=1m tmpfs dev
for name in null zero full random urandom tty fuse kmsg net/tun; do
    [ -e "/dev/$name" ] || continue
    mkdir -p "dev/$(dirname "$name")"
    : > "dev/$name"
    mount --bind "/dev/$name" "dev/$name"
done
for path in $NODE_DEVICES; do
    if [ -d "$path" ]; then mkdir -p ".$path"; else : > ".$path"; fi
    mount --bind "$path" ".$path"
done
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o "mode=1777,size=$NODE_SHM" tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue || [ -n "$machine" ] # a small kernel may lack it, and nothing that serves uses it
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs run
mkdir -p run/sshd run/lock

echo "$NODE_NAME" > etc/hostname
cat "$dir/hosts" > etc/hosts
[ -s etc/machine-id ] || tr -d - < /proc/sys/kernel/random/uuid > etc/machine-id
mkdir -p root/.ssh
chmod 700 root/.ssh
cat "$dir/authorized_keys" > root/.ssh/authorized_keys
cat "$dir/hostkey" > etc/ssh/lab_hostkey
chmod 600 root/.ssh/authorized_keys etc/ssh/lab_hostkey
rm -f etc/ssh/lab_sshd_config
[ -z "$machine" ] || cat "$dir/sshd_config" > etc/ssh/lab_sshd_config
[ -n "$machine" ] || cat > etc/ssh/lab_sshd_config <<'CONFIG'
Port 22
HostKey /etc/ssh/lab_hostkey
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
UseDNS no
MaxStartups 200:30:400
MaxSessions 100
SetEnv PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
Subsystem sftp internal-sftp
CONFIG

# PID 1: starts sshd and the Docker engine, runs /etc/lab.rc if there is one, and reaps orphans. It restarts none of
# them: a node whose sshd died is a case that Plumbline must report. `lab_up` starts such a node again.
cat > run/plumbline-init <<'INIT'
#!/bin/sh
limit=$(ulimit -Hn)
[ "$limit" = unlimited ] || [ "$limit" -gt 65536 ] && limit=65536
ulimit -n "$limit"
[ ! -e /run/plumbline-environment ] || . /run/plumbline-environment
"${NODE_SSHD:-/usr/sbin/sshd}" -D -e -f /etc/ssh/lab_sshd_config < /dev/null >> /var/log/sshd.log 2>&1 &
[ ! -e /usr/local/lib/plumbline-engine ] || start-engine < /dev/null >> /var/log/dockerd.log 2>&1 &
[ ! -x /etc/lab.rc ] || /etc/lab.rc < /dev/null >> /var/log/lab.rc.log 2>&1 &
while :; do
    wait
    sleep 2
done
INIT

# As root, the driver's library makes the device files it misses, and would see all GPUs: a node on the machine's root may make none.
drop=
if [ -n "$machine" ]; then
    drop='setpriv --bounding-set=-mknod --inh-caps=-mknod'
    cat "$dir/environment" > run/plumbline-environment
    echo "NODE_SSHD='$NODE_SSHD'" >> run/plumbline-environment
fi

pivot_root . .old
cd /
umount -l /.old
rmdir /.old
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 container=lab \
    "PLUMBLINE_LAB_NODE=$PLUMBLINE_LAB_NODE" $drop /bin/sh /run/plumbline-init < /dev/null > /dev/null 2>&1

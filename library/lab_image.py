#!/usr/bin/python
"""Ansible module: the container image that the engines of all labs share."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image
short_description: Build the lab's container image in the cache, once
description:
  - Makes one image of the nodes' root filesystem and the vLLM environment with C(docker import) of a real engine, which
    comes from the root filesystem and runs in namespaces of its own.
  - The same engine pushes it, once, to a registry of the root filesystem (C(docker-registry)), for M(lab_registry). Without that
    package there is none.
  - Built in a temporary folder and renamed, so that an interrupted build is built again and never half used.
  - The folder holds C(record) (name and id as an engine notes them), C(store) (to copy into an engine's C(/var/lib/docker)),
    C(layers) (the files), C(registry) (the registry's files) and C(digest). The store's layer is a link to O(mount_point), where a
    node mounts the folder read-only, so that engines share one copy. Its files are hard links to those that it was made of.
options:
  path:
    description: Where the image should be. Its name should depend on O(rootfs), O(env) and this recipe.
    type: path
    required: true
  rootfs:
    description: The nodes' root filesystem, with Debian's docker.io in it.
    type: path
    required: true
  env:
    description: The vLLM environment.
    type: path
    required: true
  node_path:
    description: Where the environment is in the image.
    type: str
    default: /opt/plumbline/vllm
  mount_point:
    description: Where nodes mount the folder.
    type: str
    default: /opt/plumbline/image
  reference:
    description: The image's name.
    type: str
    default: plumbline/vllm-cpu:lab
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Build the image
  lab_image:
    path: /root/.cache/plumbline/image-0123456789ab
    rootfs: /root/.cache/plumbline/rootfs-0123456789ab
    env: /root/.cache/plumbline/vllm-0123456789ab
"""

RETURN = r"""
image:
  description: The image's id, as C(docker image inspect) shows it in each node.
  returned: unless check mode would build it
  type: str
linked_gib:
  description: What hard links to the root filesystem and the environment save, in GiB.
  returned: when built
  type: float
seconds:
  description: How long the build took, in seconds.
  returned: when built
  type: float
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import cache as lab_cache
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import store as lab_store

# Runs in mount, network, pid and ipc namespaces of its own. The engine's root is an overlay, as a node's is: nothing is
# written to the shared root filesystem. pivot_root, because an engine in a chroot cannot unpack a layer safely.
ENTER = r"""
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/root /run/upper /run/work
mount -t overlay -o "lowerdir=$ROOTFS,upperdir=/run/upper,workdir=/run/work" overlay /run/root
cd /run/root
mkdir -p .old var/lib/docker var/lib/docker-registry mnt
mount --bind "$STORE" var/lib/docker
mount --bind "$REGISTRY" var/lib/docker-registry
mount --bind "$ROOTFS" mnt
mount --bind "$ENVIRONMENT" "mnt$NODE_PATH"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . .old
cd /
umount -l /.old
exec env -i HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
    NODE_PATH="$NODE_PATH" REFERENCE="$REFERENCE" /bin/sh -euc "$SCRIPT"
"""
# The entry point is the one of vllm/vllm-openai: a role that forgets to replace it fails here as it would there.
IMPORT = r"""
dockerd --bridge none --iptables=false --ip-forward=false --storage-driver overlay2 > /run/dockerd.log 2>&1 &
engine=$!
for _ in $(seq 300); do
    docker version > /dev/null 2>&1 && break
    kill -0 $engine 2> /dev/null || break
    sleep 0.2
done
docker version > /dev/null || { tail -n 15 /run/dockerd.log; exit 1; }
{ tar --create --directory /mnt --sort=name --numeric-owner --format=pax --pax-option=delete=atime,delete=ctime \
    --xattrs --xattrs-include=security.capability --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' . || touch /tmp/cut; } |
    docker import --change "ENV PATH=$NODE_PATH/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    --change 'ENV LANG=C.UTF-8' --change 'ENTRYPOINT ["vllm","serve"]' - "$REFERENCE" > /dev/null
[ ! -e /tmp/cut ]
docker image inspect --format '{{.Id}}' "$REFERENCE" > /tmp/id
"""
# A real registry gets the image from the same engine, once; the registry of each lab starts from its files. The engine keeps which layer
# has which digest there, and a node's engine has its records: it asks the registry for what it lacks, as any engine does.
PUSH = r"""
push() {
printf '%s\n' 'version: 0.1' 'storage: {filesystem: {rootdirectory: /var/lib/docker-registry}}' 'http: {addr: "127.0.0.1:5000"}' \
    > /tmp/registry.yml
ip link set lo up
docker-registry serve /tmp/registry.yml > /run/registry.log 2>&1 &
registry=$!
there=127.0.0.1:5000/$REFERENCE
docker tag "$REFERENCE" "$there"
for _ in $(seq 50); do
    docker push "$there" > /tmp/pushed 2>&1 && break
    grep -q 'connection refused' /tmp/pushed && kill -0 $registry || { cat /tmp/pushed; tail -n 5 /run/registry.log; exit 1; }
    sleep 0.2
done
docker image inspect --format '{{index .RepoDigests 0}}' "$there" | sed 's/.*@//' > /tmp/digest
docker image rm "$there" > /dev/null
kill $registry
wait $registry || true
}
echo none > /tmp/digest
! command -v docker-registry > /dev/null || push
"""
END = r"""
kill $engine
wait $engine || true
cat /tmp/digest /tmp/id
"""


def build(params, part):
    """Build in the folder ``part``; return the bytes that hard links save."""
    store = os.path.join(part, "store")
    registry = os.path.join(part, "registry")
    os.makedirs(store)
    os.makedirs(registry)
    env = dict(
        os.environ,
        ROOTFS=params["rootfs"],
        ENVIRONMENT=params["env"],
        STORE=store,
        REGISTRY=registry,
        NODE_PATH=params["node_path"],
        REFERENCE=params["reference"],
        SCRIPT=IMPORT + PUSH + END,
    )
    argv = ["unshare", "--mount", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    done = lab_host.call(*argv, "/bin/sh", "-euc", ENTER, env=env, check=False, timeout=1800)
    digest, image = ([""] * 2 + done.stdout.strip().splitlines())[-2:]
    if done.returncode or not (image.startswith("sha256:") and (digest == "none" or digest.startswith("sha256:"))):
        raise lab_host.HostError(
            "the image's engine ended with %d (set lab_docker: false to do without containers):\n%s"
            % (done.returncode, lab_host.last_words(done, 15))
        )
    saved = lab_store.share_layers(part, params["mount_point"], params["rootfs"], params["node_path"], params["env"])
    lab_store.write_record(part, params["reference"], image)
    if digest != "none":
        lab_store.write_digest(part, digest)
    return saved


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "rootfs": {"type": "path", "required": True},
            "env": {"type": "path", "required": True},
            "node_path": {"type": "str", "default": "/opt/plumbline/vllm"},
            "mount_point": {"type": "str", "default": "/opt/plumbline/image"},
            "reference": {"type": "str", "default": "plumbline/vllm-cpu:lab"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    if module.check_mode and not os.path.isdir(path):
        module.exit_json(changed=True)
    try:
        built = lab_cache.build_once(path, lambda part: build(module.params, part))
    except (lab_host.HostError, lab_store.StoreError, OSError) as error:
        module.fail_json(msg=str(error))
    image = lab_store.recorded(path)[1]
    if built is None:
        module.exit_json(changed=False, image=image)
    saved, seconds = built
    module.exit_json(changed=True, image=image, linked_gib=round(saved / 2**30, 2), seconds=seconds)


if __name__ == "__main__":
    main()

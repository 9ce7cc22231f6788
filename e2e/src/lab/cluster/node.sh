#!/bin/sh
# The first process of a node, in PID, mount and network namespaces of its own; when it ends, so does all of the node.
# node.sh NODE_FOLDER PROGRAMS IMAGES NODE_NAME NODE_ADDRESSES
set -eu
folder=$1 programs=$2 images=$3 name=$4 addresses=$5

# What nodes must not share: sockets and host paths in /run, state in /var/lib (the kubelet uses its device-plugins folder
# there whatever its root is), logs.
mount -t tmpfs -o mode=755 lab /run
mkdir -m 1777 /run/lock
mount -t overlay -o "lowerdir=/var/lib,upperdir=$folder/var-lib,workdir=$folder/var-lib.work" lab /var/lib
mount --bind "$folder/log" /var/log

# Of an earlier run of this node, as after a reboot: nothing of it runs any more.
rm -rf "$folder/state" "$folder/run"
mkdir "$folder/state" "$folder/run"
containerd -c "$folder/containerd.toml" > "$folder/containerd.log" 2>&1 &
socket=$folder/run/containerd.sock
tries=0
until ctr -a "$socket" version > /dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { echo "containerd does not answer"; tail -n 20 "$folder/containerd.log"; exit 1; }
    sleep 0.1
done
for image in "$images"/*.tar; do
    ctr -a "$socket" -n k8s.io images import "$image"
done

"$programs/kubelet" --config="$folder/kubelet.json" --kubeconfig="$folder/kubeconfig" --root-dir="$folder/kubelet" \
    --cert-dir="$folder/kubelet/pki" --hostname-override="$name" --node-ip="$addresses" > "$folder/kubelet.log" 2>&1 &
# It is written when the network of the node's Pods is known; empty where there is to be none.
while [ ! -e "$folder/kube-proxy.json" ]; do sleep 0.1; done
if [ -s "$folder/kube-proxy.json" ]; then
    "$programs/kube-proxy" --config="$folder/kube-proxy.json" > "$folder/kube-proxy.log" 2>&1 &
fi
wait

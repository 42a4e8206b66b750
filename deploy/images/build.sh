#!/usr/bin/env bash
# Builds images without a Docker engine: with buildah, on a Debian that debootstrap makes. As root, in any folder:
#   deploy/images/build.sh service airflow -- --build-arg TORCH_INDEX=<PyTorch's CPU index>
# What stands after `--` goes to `buildah build`. build/images/<name> is then a link to the image's file system, and
# build/images/<name>.json its configuration: there `pytest -m e2e tests/e2e/test_images_run.py` finds it.
# MIRROR is where Debian comes from; if it is not given, where this machine (a Debian bookworm then) gets its own.
# STORE is where buildah keeps everything. Its driver copies whole layers: for an image of 1 GB it takes 4 while it builds.
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
store=${STORE:-$project/build/images/store}
mirror=${MIRROR:-$(apt-get indextargets --format '$(SITE)' 'Release: bookworm' | head -n 1)}  # .../debian
roots=$project/build/images
base=localhost/captionloop-base

images=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do images+=("$1") && shift; done
[ $# -eq 0 ] || shift
[ ${#images[@]} -gt 0 ] || images=(service frontend pipelines airflow)

buildah() { command buildah --storage-driver vfs --root "$store/images" --runroot "$store/run" "$@"; }

# A Debian with security updates, which debootstrap alone leaves out.
make_base() {
  [ -e "$store/debian.done" ] || {
    rm -rf "$store/debian"
    debootstrap --variant=minbase bookworm "$store/debian" "$mirror"
    printf 'deb %s bookworm main\n' "$mirror" >"$store/debian/etc/apt/sources.list"
    printf 'deb %s bookworm-security main\n' "$mirror-security" >>"$store/debian/etc/apt/sources.list"
    rm -rf "$store"/debian/var/cache/apt/archives/*.deb "$store"/debian/var/lib/apt/lists/*
    touch "$store/debian.done"
  }
  local container
  container=$(buildah from scratch)
  cp -a "$store/debian/." "$(buildah mount "$container")/"
  buildah commit --quiet --rm "$container" "$base"
}

# With the vfs driver the folder of an image's last layer is its whole file system.
unpack() {
  buildah inspect --type image "localhost/captionloop-$1" >"$roots/$1.json"
  ln -sfn "$(python3 - "$store/images" "localhost/captionloop-$1:latest" <<'PYTHON'
import json, sys
from pathlib import Path
store, name = Path(sys.argv[1]), sys.argv[2]
images = json.loads((store / "vfs-images/images.json").read_text())
print(next(store / "vfs/dir" / image["layer"] for image in images if name in image.get("names", [])))
PYTHON
  )" "$roots/$1"
}

mkdir -p "$store" "$roots"
buildah inspect --type image "$base" >/dev/null 2>&1 || make_base
for image in "${images[@]}"; do
  buildah build --isolation chroot --format docker --layers=false \
    --build-arg BASE="$base" --build-arg COMMIT="$(git -C "$project" rev-parse HEAD)" "$@" \
    -f "$project/deploy/images/$image/Dockerfile" -t "localhost/captionloop-$image" "$project"
  unpack "$image"
done
buildah rmi --prune >/dev/null 2>&1 || true
buildah images

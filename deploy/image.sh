#!/bin/sh
# Builds the container image with the first of docker, podman and buildah that works here; `make image` calls it.
#
# From the environment: IMAGE_BUILDER (one of the three), IMAGE_NAME (default qc-adapter), PYTHON_IMAGE (the base),
# IMAGE_SOURCE (address of the source, for the label). All arguments are handed on to the builder, for example
#   sh deploy/image.sh --secret id=pip.conf,src=/etc/pip.conf
set -eu
cd "$(dirname "$0")/.."

version=$(sed -n '/^\[project\]/,/^\[project\./s/^version = "\(.*\)"$/\1/p' pyproject.toml)
if [ -z "$version" ]; then
    echo "image.sh: pyproject.toml names no version" >&2
    exit 1
fi
revision=$(git rev-parse HEAD 2> /dev/null || echo unknown)
if [ "$revision" != unknown ] && [ -n "$(git status --porcelain)" ]; then
    revision="$revision-dirty"
fi

# A client without its engine is no builder. Docker needs BuildKit: its old builder knows no build secrets.
works() {
    case "$1" in
        docker) docker version --format '{{.Server.Version}}' && docker buildx version ;;
        podman) podman info ;;
        buildah) buildah info ;;
        *) return 1 ;;
    esac > /dev/null 2>&1
}

builder=""
for candidate in ${IMAGE_BUILDER:-docker podman buildah}; do
    if works "$candidate"; then
        builder=$candidate
        break
    fi
done
if [ -z "$builder" ]; then
    echo "image.sh: of ${IMAGE_BUILDER:-docker, podman and buildah} none works here:" \
        "start docker (with buildx), or install podman or buildah" >&2
    exit 1
fi

# The second tag is what the compose file and the overlay for a local cluster run.
name=${IMAGE_NAME:-qc-adapter}
set -- --file deploy/Dockerfile --tag "$name:$version" --tag "$name:local" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision" \
    ${IMAGE_SOURCE:+--build-arg SOURCE="$IMAGE_SOURCE"} ${PYTHON_IMAGE:+--build-arg PYTHON_IMAGE="$PYTHON_IMAGE"} "$@" .
echo "image.sh: $name:$version with $builder"
case "$builder" in
    docker) exec docker buildx build --load "$@" ;;
    *) exec "$builder" build "$@" ;;
esac

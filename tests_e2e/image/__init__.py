"""The container image, built from the working tree and run for real: `make image-test`.

With docker (Linux: the containers share this machine's network) that is all there is to it. Where no docker daemon
answers, buildah is used: as root, `apt-get install buildah debootstrap`. It pulls the images that the Dockerfile starts
from; where no registry can be reached it makes them here (`local_base`). Its state is in `testbench-image` below the
folder for temporary files, which may be removed at any time.

    IMAGE_TEST_BASE  auto (as above), registry (never make them here) or local (never ask a registry); buildah only
    DEBIAN_MIRROR    the mirror of a local base image, instead of debootstrap's own

The size that is printed is the sum of all layers as they are unpacked, the base image's included. Without
`make image-test` nothing in this folder is collected, so that a plain run of the tests needs no container engine.
"""

#!/bin/bash
# Installs the packages that a component's description names, before its
# install.sh runs.
set -euo pipefail
. "$AMI_FACTORY_LIB/lib.sh"
packages_install "$@"

# ami-factory hardening: ACC-03. Login shells only: services keep 022.
# shellcheck shell=sh
umask 027

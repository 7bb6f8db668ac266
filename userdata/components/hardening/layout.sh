#!/bin/bash
# Prints what the component lays over the root, a line "MODE SOURCE TARGET" per
# file; the trees below files/ are common ones, the family's, the architecture's
# and the variant's.
#
#	layout.sh FAMILY VARIANT ARCHITECTURE
set -euo pipefail
family=$1 variant=$2 architecture=$3

trees=(common)
case $family in
debian-* | ubuntu-*) trees+=(debian) ;;
*) trees+=("$family") ;;
esac
if [[ $family != ubuntu-* ]]; then trees+=(snapless); fi
trees+=("$architecture")
case $variant in
base) trees+=(base) ;;
*) trees+=(containers "$variant") ;;
esac

for tree in "${trees[@]}"; do
	if [[ ! -d files/$tree ]]; then continue; fi
	find "files/$tree" -type f -printf '%p\n' | LC_ALL=C sort | while IFS= read -r source; do
		target=/${source#"files/$tree/"}
		case $target in
		/etc/sudoers.d/*) mode=440 ;;
		/etc/kernel/postinst.d/*) mode=755 ;;
		/etc/audit/*) mode=640 ;;
		/etc/nftables.conf) mode=600 ;;
		*) mode=644 ;;
		esac
		printf '%s %s %s\n' "$mode" "$source" "$target"
	done
done

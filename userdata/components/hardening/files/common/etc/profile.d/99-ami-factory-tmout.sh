# ami-factory hardening: ACC-02. Idle shells end after 15 minutes.
# The subshell finds out whether an earlier pass made the variable read-only.
# shellcheck shell=sh disable=SC3044 # declare is bash's, which is asked for first
if (unset TMOUT) 2>/dev/null; then
	if [ -n "${BASH_VERSION-}" ]; then
		declare -xr TMOUT=900
	else
		TMOUT=900
		readonly TMOUT
		export TMOUT
	fi
fi

# ami-factory hardening: ACC-02. Idle shells end after 15 minutes.
# The subshell finds out whether an earlier pass made the variable read-only.
# shellcheck shell=sh
if (unset TMOUT) 2>/dev/null; then
	TMOUT=900
	readonly TMOUT
	export TMOUT
fi

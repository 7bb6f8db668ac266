install -m 0644 files/base.conf /etc/sysctl.d/base.conf

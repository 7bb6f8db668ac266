bash components/base/install.sh

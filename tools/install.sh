#!/bin/sh
# install.sh: installs what building and testing need (Debian, Ubuntu; macOS with
# Homebrew, not tried): a C compiler, make, GLPK with its command-line solver,
# OpenMP; Python, whose library a test uses (tools/check_vipr.py).  Does nothing,
# and needs no rights, when all are there.
# SPDX-License-Identifier: GPL-3.0-or-later
set -e
if [ "$(uname -s)" = Darwin ]; then
    xcode-select -p >/dev/null 2>&1 || xcode-select --install
    exec brew install --quiet glpk libomp
fi
missing=""
command -v gcc >/dev/null || missing="$missing gcc libc6-dev"
command -v make >/dev/null || missing="$missing make"
command -v glpsol >/dev/null || missing="$missing glpk-utils"
command -v python3 >/dev/null || missing="$missing python3"
[ -f /usr/include/glpk.h ] || missing="$missing libglpk-dev"
[ -z "$missing" ] && exit 0
root=""
[ "$(id -u)" -eq 0 ] || root=sudo
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -q
# shellcheck disable=SC2086
$root apt-get install -y -q --no-install-recommends $missing

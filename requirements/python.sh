#!/bin/sh
# Which Python `make` uses.
#   python.sh newest         the newest supported Python here that works, as a path
#   python.sh all            the same of every supported version, newest first
#   python.sh venv FOLDER    makes the environment in FOLDER if there is none, with $PYTHON or else the newest
# A Python works if it has all that an environment and the project need: Debian has venv apart, and version managers put
# commands on the PATH that only say which version they would like to be told.
set -eu

SUPPORTED="3.13 3.12 3.11"

version_of() { # COMMAND
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

works() { # COMMAND VERSION
  [ "$(version_of "$1")" = "$2" ] && "$1" -c 'import ctypes, ensurepip, sqlite3, ssl, venv' >/dev/null 2>&1
}

find_version() { # VERSION: on the PATH first, then where version managers keep them
  old_ifs=$IFS
  IFS=:
  for folder in $PATH; do
    IFS=$old_ifs
    for command in "$folder/python$1" "$folder/python3"; do
      if [ -x "$command" ] && works "$command" "$1"; then echo "$command"; return 0; fi
    done
  done
  IFS=$old_ifs
  for command in "${HOME:-/}/.pyenv/versions/$1".*/bin/"python$1" \
    "${HOME:-/}/.local/share/uv/python/cpython-$1".*/bin/"python$1" \
    "/usr/local/bin/python$1" "/opt/homebrew/bin/python$1"; do
    if [ -x "$command" ] && works "$command" "$1"; then echo "$command"; return 0; fi
  done
  return 1
}

newest() {
  for version in $SUPPORTED; do
    if find_version "$version"; then return 0; fi
  done
  echo "There is no Python here that works with captionloop (one of $SUPPORTED, with venv, ssl and sqlite3): install one (Debian, Ubuntu: apt-get install python3-venv; macOS: brew install python@3.13), or give its path: make PYTHON=/path/to/python3" >&2
  return 1
}

environment() { # FOLDER
  asked=""
  if [ -n "${PYTHON:-}" ]; then
    asked=$(version_of "$PYTHON") || {
      echo "PYTHON=$PYTHON does not run: give the path of a Python (one of $SUPPORTED)" >&2
      return 1
    }
    case " $SUPPORTED " in
      *" $asked "*) ;;
      *) echo "PYTHON=$PYTHON is Python $asked, captionloop supports $SUPPORTED: give another, or leave PYTHON out" >&2; return 1 ;;
    esac
  fi
  if [ -x "$1/bin/python" ] && found=$(version_of "$1/bin/python"); then
    if [ -n "$asked" ] && [ "$asked" != "$found" ]; then
      echo "$1 was made by Python $found, and PYTHON=$PYTHON is $asked: remove it first (rm -rf $1), or put the other beside it (make VENV=.venv-$asked PYTHON=$PYTHON ...)" >&2
      return 1
    fi
    case " $SUPPORTED " in
      *" $found "*) return 0 ;;
    esac
    echo "$1 was made by Python $found, captionloop supports $SUPPORTED: remove it (rm -rf $1), and make builds it anew" >&2
    return 1
  fi
  if [ -n "$asked" ]; then python=$PYTHON; else python=$(newest) || return 1; fi
  if ! works "$python" "$(version_of "$python")"; then
    echo "$python lacks venv, ssl or sqlite3: install them (Debian, Ubuntu: apt-get install python$(version_of "$python")-venv), or give another PYTHON" >&2
    return 1
  fi
  echo "Making $1 with $python (Python $(version_of "$python")) ..."
  "$python" -m venv --clear "$1"
}

case "${1:-}" in
  newest) newest ;;
  all) for version in $SUPPORTED; do find_version "$version" || true; done ;;
  venv) environment "$2" ;;
  *) echo "usage: python.sh newest | all | venv FOLDER" >&2; exit 2 ;;
esac

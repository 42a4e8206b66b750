#!/bin/sh
# Names the gateway in nginx' configuration, and becomes nginx.
set -eu
mkdir -p /tmp/nginx
sed "s|@GATEWAY@|${GATEWAY}|g" /etc/captionloop/nginx.conf >/tmp/nginx/nginx.conf
exec nginx -e stderr -c /tmp/nginx/nginx.conf

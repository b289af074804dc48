#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2317  # the cases are called by name
#
# guest_net.sh BIN_FOLDER   inside the virtual machine: real traffic through ctd as a NAT gateway
# guest_net.sh --list       the names of the cases
#
#   client 10.0.1.2, fd00:1::2 ── lan0 gateway wan0 ── server 10.0.2.2, fd00:2::2
#
# One line of result for each case, with its output after a failure. The cases run in order, on one daemon.

set -u
cases=(start ping ping6 http http6 udp bulk table killed restart shutdown)
if [ "${1-}" = --list ]; then
  echo "${cases[@]}"
  exit
fi
bin=$1
work=$(mktemp -d)
gateway4=10.0.2.1 server4=10.0.2.2 client4=10.0.1.2
server6=fd00:2::2 client6=fd00:1::2
bulk_bytes=20000000

in_client() { ip netns exec client "$@"; }
in_server() { ip netns exec server "$@"; }
in_gateway() { nsenter --net=/run/netns/gateway "$@"; }

# eventually SECONDS COMMAND...: until it succeeds
eventually() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || { echo "still failing: $*"; "$@"; return; }
    sleep 0.2
  done
}

# expect WHAT ACTUAL EXPECTED
expect() {
  [ "$2" = "$3" ] || { echo "$1: \"$2\", expected \"$3\""; return 1; }
}

# connect NAMESPACE DEVICE GATEWAY_DEVICE NETWORK: .1 is the gateway, .2 the host
connect() {
  ip -n "$1" link add "$2" type veth peer name "$3" netns gateway
  ip -n "$1" addr add "10.0.$4.2/24" dev "$2"
  ip -n "$1" addr add "fd00:$4::2/64" dev "$2" nodad
  ip -n gateway addr add "10.0.$4.1/24" dev "$3"
  ip -n gateway addr add "fd00:$4::1/64" dev "$3" nodad
  ip -n "$1" link set "$2" up
  ip -n gateway link set "$3" up
}

set_up() {
  local name
  for name in client gateway server; do
    ip netns add "$name"
    ip -n "$name" link set lo up
  done
  connect client eth0 lan0 1
  connect server eth0 wan0 2
  ip -n client route add default via 10.0.1.1
  ip -n client route add default via fd00:1::1
  # IPv6 is not translated; an answer to an IPv4 inside address must not find its way.
  ip -n server route add fd00:1::/64 via fd00:2::1
  in_gateway sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'

  mkdir -p "$work/www/cgi-bin"
  # shellcheck disable=SC2016  # expanded by the server
  printf '#!/bin/sh\nprintf "Content-Type: text/plain\\r\\n\\r\\n%%s" "$REMOTE_ADDR"\n' > "$work/www/cgi-bin/source"
  chmod +x "$work/www/cgi-bin/source"
  head -c "$bulk_bytes" /dev/urandom > "$work/www/bulk"
  in_server busybox httpd -p 80 -h "$work/www"

  cat > "$work/ctd.json" <<'END'
{ "ports": ["lan0", "wan0"],
  "gateway": { "inside": ["lan0"], "outside": "wan0", "masquerade": true } }
END
}

start_daemon() {
  in_gateway "$bin/ctd" --config "$work/ctd.json" >> "$work/ctd.log" 2>&1 &
  echo $! > "$work/ctd.pid"
}

case_start() {
  start_daemon
  eventually 60 "$bin/ctctl" port list
}

case_ping() { in_client ping -n -c 3 -i 0.2 -W 10 "$server4"; }
case_ping6() { in_client ping -n -c 3 -i 0.2 -W 10 "$server6"; }

# What the server believes to be talking to.
source_seen_at() { in_client curl -gsS --max-time 30 "http://$1/cgi-bin/source"; }
case_http() { expect "source address" "$(source_seen_at "$server4")" "[::ffff:$gateway4]"; }
case_http6() { expect "source address" "$(source_seen_at "[$server6]")" "[$client6]"; }

case_udp() {
  echo pong | in_server timeout 60 nc -n -v -u -l 5000 > "$work/udp" 2>&1 &
  local server=$!
  eventually 10 sh -c 'ip netns exec server ss -Hlun | grep -q :5000'
  expect "answer" "$(echo ping | in_client timeout 30 nc -n -u -W 1 "$server4" 5000)" pong
  eventually 10 grep "Connection received on $gateway4 " "$work/udp"
  grep ping "$work/udp"
  kill "$server"
}

# Segments of 64 KiB with partial checksums, as a local sender makes them over veth.
case_bulk() {
  in_client curl -sS --max-time 120 -o "$work/bulk" "http://$server4/bulk"
  cmp "$work/bulk" "$work/www/bulk"
}

case_table() {
  "$bin/ctctl" conntrack dump -o json > "$work/dump.json"
  jq -e --arg client "$client4" --arg gateway "$gateway4" '
    [.. | objects | select(.proto? == "tcp" and .family? == "ipv4")
        | select(.orig.src == $client and .reply.dst == $gateway and (.status | index("SRC_NAT")))
    ] | length > 0' "$work/dump.json" || { cat "$work/dump.json"; return 1; }
}

# Without the daemon, what it has set up goes on: known flows, new connections of theirs included.
case_killed() {
  kill -KILL "$(cat "$work/ctd.pid")"
  eventually 10 sh -c "! kill -0 $(cat "$work/ctd.pid")"
  case_ping
  case_http
}

case_restart() {
  case_start
  case_http
  case_table
}

case_shutdown() {
  "$bin/ctctl" shutdown
  eventually 30 sh -c "! kill -0 $(cat "$work/ctd.pid")"
  expect "pins left" "$(find /sys/fs/bpf -type f)" ""
  # The kernel frees them a grace period later.
  eventually 10 sh -c "bpftool -j prog show | jq -e 'map(select(.type == (\"sched_cls\", \"xdp\"))) == []'"
}

set_up || { echo "the namespaces could not be set up"; exit 1; }
failed=0
for name in "${cases[@]}"; do
  # Not as a condition, which would switch off set -e inside.
  (set -e; "case_$name") > "$work/log" 2>&1
  status=$?
  if [ "$status" = 0 ]; then
    echo "ok $name"
  else
    failed=1
    echo "not ok $name"
    sed 's/^/    /' "$work/log"
  fi
done
if [ "$failed" = 1 ]; then
  echo "    ctd's log:"
  tail -n 100 "$work/ctd.log" | sed 's/^/    /'
  "$bin/ctctl" stats 2>&1 | sed 's/^/    /'
fi
exit "$failed"

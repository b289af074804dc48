#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Shows ctd as a NAT gateway between two networks, on real traffic:
#
#   sudo scripts/demo.sh
#
#     client  10.1.0.2 ── lan0 gateway wan0 ── 203.0.113.2  server
#             fd01::2          (ctd)           2001:db8::2
#
# Installs the packages, builds the release, makes three network namespaces, and removes all it made, also after Ctrl-C
# or a failure. Ends with an error if anything did not do what is said here. The host's own interfaces stay untouched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
  '') ;;
  -h | --help) sed -n '3,11s/^# \{0,1\}//p' scripts/demo.sh; exit 0 ;;
  *) echo "demo.sh: takes no arguments, not \"$1\"" >&2; exit 2 ;;
esac
if [ "$(id -u)" != 0 ]; then
  echo "demo.sh: needs root (it makes network namespaces): sudo scripts/demo.sh" >&2
  exit 1
fi

prefix=ctd-demo-$$
gateway4=203.0.113.1 gateway6=2001:db8::1
server4=203.0.113.2 server6=2001:db8::2
client4=10.1.0.2
export PATH="$PWD/build/release/bin:$PATH:/usr/sbin:/sbin"

work='' # a folder with all files of this run: the instance's socket, a BPF file system of its own, logs

if [ -t 1 ]; then bold=$'\e[1m' green=$'\e[32m' plain=$'\e[0m'; else bold='' green='' plain=''; fi

heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
good() { printf '  %sok%s  %s\n' "$green" "$plain" "$*"; }
indent() { sed 's/^/  /'; }
die() {
  printf '\ndemo: FAILED: %s\n' "$*" >&2
  exit 1
}

# What cannot be removed is said, and makes the demonstration fail. A signal may come anywhere: what runs is asked of the
# shell (a list of our own could miss the latest), and messages go to where standard error was at the beginning.
exec 3>&2
clean_up() {
  local status=$? pid running left=()
  trap '' INT TERM HUP PIPE
  trap - EXIT
  set +e
  cd /
  running=$(jobs -pr)
  for pid in $running; do
    kill -TERM -- "-$pid" || kill -TERM "$pid" # a process group, if it has one of its own
  done 2> /dev/null
  for pid in $running; do
    for _ in {1..100}; do { kill -0 -- "-$pid" || kill -0 "$pid"; } 2> /dev/null && sleep 0.05; done
    kill -KILL "$pid" 2> /dev/null && left+=("process $pid had to be killed")
    wait "$pid" 2> /dev/null
  done
  for name in client gateway server; do
    [ ! -e "/run/netns/$prefix-$name" ] || ip netns del "$prefix-$name" || left+=("namespace $prefix-$name")
  done
  if [ -n "$work" ]; then
    if mountpoint -q "$work/bpf"; then umount "$work/bpf" || left+=("BPF file system $work/bpf"); fi
    rm -rf --one-file-system "$work" || left+=("folder $work")
  fi
  if [ ${#left[@]} -gt 0 ]; then
    printf 'demo: not removed: %s\n' "${left[@]}" >&3
    [ "$status" != 0 ] || status=1
  elif [ "$status" -gt 128 ]; then
    printf '\ndemo: stopped; all that it made is removed\n' >&3
  fi
  exit "$status"
}
trap clean_up EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 141' PIPE
trap 'exit 143' TERM

# May take minutes: as a job, so that a signal ends it at once.
long() {
  set -m # a background job of a shell without job control would ignore Ctrl-C, and so would all it starts
  "$@" < /dev/null &
  set +m
  wait "$!" || die "$*"
}

within() { nsenter --net="/run/netns/$prefix-$1" -- "${@:2}"; }

prompt() { printf '%s%s$ %s%s%s\n' "$bold" "$1" "$2" "$plain" "${3:+   ($3)}"; }

# on HOST COMMAND...: shows the command as typed on that host, runs it, shows what it says (only the lines that match
# $pattern, if it is set) and keeps all of it in the file `out`.
on() {
  local word line='' status=0
  for word in "${@:2}"; do
    [[ $word != *[\ \;]* ]] || word="'$word'"
    line+="${line:+ }$word"
  done
  prompt "$1" "$line${input:+ < $input}" "${note:-}"
  within "$@" > out 2>&1 < "${input:-/dev/null}" || status=$?
  { grep -E "${pattern:-}" out || true; } | indent
  [ "$status" = "${expect:-0}" ] || die "exit status $status, not ${expect:-0}: $line"
}

# serve NAME COMMAND...: in the background on the server, its output in the file NAME.log.
serve() {
  # Not within(): the process id must be the command's, not a subshell's.
  nsenter --net="/run/netns/$prefix-server" -- "${@:2}" > "$1.log" 2>&1 < /dev/null &
}

# ctd's log from a line on, without the times.
log_from() { tail -n "+$1" ctd.log | sed -E 's/^[^a-z]*(info[]:]* )?/  /'; }

# until_true WHAT COMMAND...: at most ten seconds.
until_true() {
  local _
  for _ in {1..100}; do
    ! "${@:2}" > /dev/null 2>&1 || return 0
    sleep 0.1
  done
  die "waited in vain for $1"
}
listening() { [ -n "$(within server ss -Hln "$1" "sport = :$2")" ]; }
captured() { [ "$(tcpdump -nr pcap "$1" 2> /dev/null | wc -l)" -ge "$2" ]; }
is_true() { jq -es "$1" out > /dev/null; }

start=$SECONDS
heading 'Packages and build'
long scripts/deps.sh
long scripts/build.sh release ctd ctctl
built=$SECONDS

heading 'A private network, a gateway, a server'
cat << 'END'
  client  10.1.0.2 ── lan0  gateway  wan0 ── 203.0.113.2  server, which has no route
          fd01::2           (ctd)            2001:db8::2          to the client
END
work=$(mktemp -d /tmp/ctd-demo.XXXXXX)
cd "$work"
export CTD_RUNDIR=$work/run
mkdir run bpf www
mount -t bpf bpf bpf
for name in client gateway server; do
  ip netns add "$prefix-$name"
  ip -n "$prefix-$name" link set lo up
done
ip link add eth0 netns "$prefix-client" type veth peer name lan0 netns "$prefix-gateway"
ip link add eth0 netns "$prefix-server" type veth peer name wan0 netns "$prefix-gateway"
address() {
  ip -n "$prefix-$1" addr add "$3/24" dev "$2"
  ip -n "$prefix-$1" addr add "$4/64" dev "$2" nodad
  ip -n "$prefix-$1" link set "$2" up
}
address client eth0 "$client4" fd01::2
address gateway lan0 10.1.0.1 fd01::1
address gateway wan0 "$gateway4" "$gateway6"
address server eth0 "$server4" "$server6"
ip -n "$prefix-client" route add default via 10.1.0.1
ip -n "$prefix-client" -6 route add default via fd01::1

cat > gateway.json << 'END'
{ "ports": ["lan0", "wan0"],
  "gateway": { "inside": ["lan0"], "outside": "wan0", "masquerade": true, "masquerade6": true } }
END
on gateway sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
on gateway cat gateway.json
prompt gateway 'ctd --config gateway.json --instance demo --ephemeral &'
# nsenter, not `ip netns exec`, which hides the BPF file system. It becomes ctd: the process id is ctd's.
nsenter --net="/run/netns/$prefix-gateway" -- ctd --config gateway.json --instance demo --ephemeral --bpffs "$work/bpf" \
  > ctd.log 2>&1 < /dev/null &
ctd_pid=$!
up_or_gone() { ctctl --instance demo conntrack count || ! kill -0 "$ctd_pid"; }
until_true 'ctd' up_or_gone
log_from 1
kill -0 "$ctd_pid" 2> /dev/null || die 'ctd did not start'

# On the server's wire: every echo request, and whatever has an inside address as its source.
inside='(src net 10.0.0.0/8 or src net fd00::/8)'
serve tcpdump tcpdump -ni eth0 --immediate-mode -U -w pcap \
  "icmp[icmptype] == icmp-echo or icmp6[icmp6type] == icmp6-echo or $inside"
until_true 'the capture' grep -q 'listening on' tcpdump.log

heading 'HTTP: the server sees the gateway'
seq 1 100000 > www/numbers
serve http /usr/bin/python3 -u -m http.server 80 --directory www
until_true 'the HTTP server' listening -t 80
on client curl -sS -o numbers -w '%{http_code}, %{size_download} bytes, sent from %{local_ip}:%{local_port}' "http://$server4/numbers"
until_true "the HTTP server's log" grep -q 'GET /numbers' http.log
pattern='GET' on server cat http.log
cmp -s www/numbers numbers || die 'the download differs from what the server has'
grep -q "^$gateway4 .*GET /numbers.* 200 " out || die "the HTTP server did not see $gateway4"
good "byte-identical; to the server, the client is $gateway4"

heading 'ping, IPv4 and IPv6'
pattern='transmitted' on client ping -c 3 -i 0.2 "$server4"
pattern='transmitted' on client ping -6 -c 3 -i 0.2 "$server6"
until_true 'six echo requests in the capture' captured 'icmp or icmp6' 6
pattern='echo request.* seq 1,' on server tcpdump -tnr pcap 'icmp or icmp6'
requests=$(grep -c 'echo request' out)
from_gateway=$(grep -cE "^IP6? ($gateway4|$gateway6) > .*echo request" out)
if [ "$requests" != 6 ] || [ "$from_gateway" != 6 ]; then
  die "$from_gateway of $requests echo requests came from the gateway; 6 of 6 should"
fi
good "three each, and all six came from $gateway4 and $gateway6"

heading 'UDP: a question and an answer'
serve udp /usr/bin/python3 -uc '
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 9000))
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(b"%s You are %s:%d.\n" % (data.strip(), peer[0].encode(), peer[1]), peer)'
until_true 'the UDP server' listening -u 9000
echo 'Who am I?' > question
input=question on client nc -u -w 3 -W 1 "$server4" 9000
grep -q "^Who am I? You are $gateway4:" out || die "the UDP server was not asked by $gateway4"
good 'the answer found its way back, and says that the gateway asked'

heading 'TCP bulk: iperf3, three seconds'
serve iperf3 iperf3 -s -1
until_true 'the iperf3 server' listening -t 5201
pattern='sender|receiver' on client iperf3 -c "$server4" -t 3
until_true "the iperf3 server's end" grep -q 'receiver' iperf3.log
pattern='Accepted' on server cat iperf3.log
grep -q "Accepted connection from $gateway4," out || die "the iperf3 server did not see $gateway4"

heading 'From outside: the gateway answers, what is behind it does not'
on server ip route add 10.1.0.0/24 via "$gateway4"
pattern='transmitted' on server ping -c 1 "$gateway4"
pattern='transmitted' expect=1 on server ping -c 1 -W 1 "$client4"
ctctl --instance demo stats -o json > out
is_true '.[0].total.drops.policy > 0' || die 'what was dropped was not counted'
good 'dropped by the policy, and counted: see the statistics below'

heading 'The connection table'
on gateway ctctl --instance demo conntrack dump
for proto in tcp udp icmp icmpv6; do
  grep -q "^$proto " out || die "no $proto connection is in the table"
done
prompt gateway 'ctctl --instance demo conntrack dump -o ndjson' 'header, first connection, trailer'
ctctl --instance demo conntrack dump -o ndjson > out
sed -n '1p; 2p; $p' out | indent
is_true '.[0].schema == "ctd.conntrack/1" and .[-1].complete and .[-1].count == length - 2' || die 'the JSON is not complete'
is_true '[.[1:-1][] | select(.orig.src | startswith("10.1.") or startswith("fd01:"))] |
  length >= 5 and all(.status | index("SRC_NAT"))' || die 'a connection from inside is not there or not translated'
good 'complete; all connections from inside have SRC_NAT'

heading 'What the policy became, and what the datapath counted'
note='those that a packet has met' pattern='n_packets=[1-9]' on gateway ctctl --instance demo rule dump
pattern='.' on gateway ctctl --instance demo stats
grep -q '^fast_hit' out || die 'no packet took the fast path'

heading 'No netfilter'
on gateway nft list ruleset
[ ! -s out ] || die 'there are netfilter rules in the gateway'
on gateway conntrack -C
[ "$(cat out)" = 0 ] || die 'the kernel tracks connections in the gateway'
good "no rule, and no entry in the kernel's own connection table"
if captured "$inside" 1; then
  tcpdump -nr pcap "$inside" 2> /dev/null | indent
  die 'an inside address was seen outside'
fi
good 'and no packet with an inside address was seen on the wire outside'

heading 'The end'
lines=$(wc -l < ctd.log)
prompt gateway "kill -TERM \$(pidof ctd)" 'takes everything down, as --ephemeral says'
kill -TERM "$ctd_pid"
wait "$ctd_pid" || { log_from $((lines + 1)); die 'ctd ended with an error'; }
log_from $((lines + 1))
[ ! -e bpf/ctd ] || die 'ctd left pins'
! ip -n "$prefix-gateway" link show ctd-demo > /dev/null 2>&1 || die 'ctd left its device'
good "no pin and no device is left; build $((built - start)) s, demonstration $((SECONDS - built)) s"

# A reader of docs/operations.md, "Compose", without containers: each service is a process of this host with the arguments and the
# files that deploy/compose.yaml gives it, on an address of its own in place of a name; the nodes run as whom the secrets are made
# for. In: ADDRESS_1, _2, _3 (the nodes), VALKEY, PORT (haproxy, on localhost), VALKEY_FLAGS. In a folder of its own, with deploy.
set -euo pipefail
trap 'kill $(jobs -pr) 2>/dev/null; wait' EXIT

own() {
  sed -e "s|https://haproxy:8443|https://localhost:$PORT|; s|bind :8443|bind 127.0.0.1:$PORT|" \
    -e "s|0\.0\.0\.0|${2:-}|; s|redis://valkey|redis://$VALKEY|; s|/ca\.pem|$PWD/compose/secret/ca.pem|" \
    -e "s|/etc/writeback-relay/secret|$PWD/compose/secret|; s|/run/writeback-relay|$PWD/run${3:-}/writeback-relay|" \
    -e "s|relay-\([123]\):8443|\${ADDRESS_\1}:8443|" "compose/$1" |
    sed -e "s|\${ADDRESS_1}|$ADDRESS_1|; s|\${ADDRESS_2}|$ADDRESS_2|; s|\${ADDRESS_3}|$ADDRESS_3|"
}

# Whom compose.yaml has a node run as. He need not reach the folder that the program is in.
as_a_node() {
  local user group
  IFS=: read -r user group < <(sed -n 's/^WRITEBACK_USER=//p' .env)
  exec 9<"$(command -v writeback-relay)"
  if [ "$(id -u)" -eq 0 ]; then
    exec setpriv --reuid="$user" --regid="$group" --clear-groups --no-new-privs --bounding-set=-all /proc/self/fd/9 "$@"
  fi
  exec /proc/self/fd/9 "$@"
}

node() {
  local address=ADDRESS_$1
  mkdir -m 1777 "run$1"
  own relay.toml "${!address}" "$1" >"relay-$1.toml"
  as_a_node run --config "relay-$1.toml" >"relay-$1.log" 2>&1 &
  until writeback-relay ready --ops-url "http://${!address}:9443" >/dev/null 2>&1; do
    kill -0 $! || { cat "relay-$1.log" >&2; exit 1; }
  done
}

compose_up() {
  case "$*" in
    *relay-1*)
      mkdir valkey
      redis-server --bind "$VALKEY" --dir "$PWD/valkey" $VALKEY_FLAGS >valkey.log 2>&1 &
      until redis-cli -h "$VALKEY" ping >/dev/null 2>&1; do kill -0 $!; done
      for node in 1 2 3; do node $node; done
      own haproxy.cfg >haproxy.cfg
      haproxy -f haproxy.cfg >haproxy.log 2>&1 &
      ;;
    *)
      command writeback-agent --home agent run >agent.log 2>&1 &
      ;;
  esac
}

portal() {
  local arguments=() argument
  for argument in "$@"; do
    argument=${argument//https:\/\/haproxy:8443/https:\/\/localhost:$PORT}
    arguments+=("${argument//\/ca.pem/$PWD/compose/secret/ca.pem}")
  done
  command writeback-portal --home portal "${arguments[@]}"
}

docker() {
  local verb=$2
  shift 2
  while [ $# -gt 0 ] && [ "${1#-}" != "$1" ]; do shift; done
  case "$verb" in
    up) compose_up "$@" ;;
    exec)
      shift
      WRITEBACK_OPS_URL=http://$ADDRESS_1:9443 WRITEBACK_ADMIN_TOKEN_FILE=$PWD/run1/writeback-relay/admin.token \
        "$(basename "$1")" "${@:2}"
      ;;
    run)
      case "$1" in
        portal) "$@" ;;
        agent)
          mkdir -p -m 700 agent
          own agent.toml >agent/agent.toml
          shift
          command writeback-agent --home agent "$@"
          ;;
      esac
      ;;
  esac
}

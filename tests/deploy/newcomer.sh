# A newcomer's shell, in a folder of his own, without a cluster: what kubectl and helm can do without one they do; what runs
# in the pod runs here.
set -euo pipefail
umask 022
export HOME=$PWD

docker() { :; }

kubectl() {
  case " $* " in
    *" exec "*)
      while [ "$1" != -- ]; do shift; done
      shift
      "$@"
      ;;
    *" create "*) "$KUBECTL" "$@" --dry-run=client -o yaml >/dev/null ;;
  esac
}

helm() {
  case "$1" in
    install)
      "$HELM" "$@" --dry-run=client >installed
      # In the cluster's place.
      writeback-relay run --dev-tls --data-dir "$PWD/data" --listen "$ADDRESS:8443" --ops-listen "$ADDRESS:9443" \
        --public-url "$RELAY" >relay.log 2>&1 &
      trap 'kill $!' EXIT
      export WRITEBACK_OPS_URL=http://$ADDRESS:9443 WRITEBACK_ADMIN_TOKEN_FILE=$PWD/data/admin.token
      until writeback-relay ready >/dev/null 2>&1; do
        kill -0 $! || { cat relay.log >&2; exit 1; }
      done
      # As a public certificate would be.
      export SSL_CERT_FILE=$PWD/data/dev-ca.pem
      ;;
    # Its pod runs this.
    test) writeback-relay ready ;;
  esac
}

writeback-agent() {
  command writeback-agent "$@" >agent.out || return
  case "$1" in
    trust) FINGERPRINT=$(sed -n 's/^fingerprint *//p' agent.out) ;;
    enroll)
      AGENT_ID=$(sed -n 's/^enrolled as agent //p' agent.out)
      FINGERPRINT=$(sed -n 's/^fingerprint *//p' agent.out)
      ;;
  esac
}

writeback-portal() {
  case "$1" in
    # There is no terminal to compare fingerprints at.
    approve) command writeback-portal "$@" --fingerprint "$FINGERPRINT" ;;
    *) command writeback-portal "$@" ;;
  esac
}

#!/usr/bin/env bash
# A Samba AD domain controller for the tests: samba-dc.sh FOLDER ADDRESS
#
# Makes a domain in FOLDER, serves LDAP, LDAPS and Kerberos on ADDRESS (a loopback address of its own: the ports are
# fixed), prints "ready", and waits until its standard input is closed. Then, or when it fails, it stops the domain
# controller and removes FOLDER: so nothing outlives the process at the other end of the pipe.
#
#   OU=Staff    accounts that svc-reset may reset, unlock, and force to change their password; one is always there
#   OU=Other    accounts that it may not
#   OU=Service  svc-reset itself
#
# Policy: at least 10 characters, three of the usual kinds; locked for 30 minutes after 3 wrong passwords.
set -euo pipefail

folder=$(realpath "$1") address=$2
realm=EXAMPLE.TEST base=DC=example,DC=test
admin_password=${ADMIN_PASSWORD:?} service_password=${SERVICE_PASSWORD:?}
conf=$folder/etc/smb.conf sam=tdb://$folder/private/sam.ldb
export PATH=/usr/sbin:/usr/bin:/sbin:/bin # samba-tool needs the system's Python
export LDAPTLS_CACERT=$folder/tls/ca.pem

samba=
clean_up() {
  status=$?
  trap '' HUP INT TERM
  if [ -n "$samba" ]; then
    kill "$samba" 2>/dev/null || true
    for _ in $(seq 50); do kill -0 "$samba" 2>/dev/null || break; sleep 0.1; done
    kill -9 -- "-$samba" 2>/dev/null || true
  fi
  [ "$status" -eq 0 ] || tail -n 20 "$folder"/log/*.log >&2 || true
  rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 0' HUP INT TERM

provision() {
  mkdir -p "$folder/run" "$folder/log"
  : >"$folder/empty.conf" # keeps /etc/samba/smb.conf out of it
  samba-tool domain provision --configfile="$folder/empty.conf" --targetdir="$folder" --server-role=dc \
    --realm="$realm" --domain=EXAMPLE --host-name=dc1 --host-ip="$address" --adminpass="$admin_password" \
    --dns-backend=NONE --option="interfaces=$address/8" --option="bind interfaces only=yes" \
    >"$folder/log/provision.log" 2>&1
  cat >"$folder/global" <<CONF
	interfaces = $address/8
	bind interfaces only = yes
	pid directory = $folder/run
	ncalrpc dir = $folder/run/ncalrpc
	winbindd socket directory = $folder/run/winbindd
	ntp signd socket directory = $folder/run/ntp_signd
	log file = $folder/log/samba.log
	old password allowed period = 0
	disable netbios = yes
	server services = ldap, cldap, kdc
	dcerpc endpoint servers = none
	tls keyfile = $folder/tls/key.pem
	tls certfile = $folder/tls/cert.pem
	tls cafile = $folder/tls/ca.pem
	tls priority = NORMAL:-VERS-TLS1.0:-VERS-TLS1.1
CONF
  sed -i -e '/^\t\(interfaces\|bind interfaces only\|server services\) = /d' -e "/^\[global\]/r $folder/global" "$conf"
}

# Samba's own certificate has no subjectAltName.
certificate() {
  mkdir "$folder/tls"
  cd "$folder/tls"
  openssl ecparam -name prime256v1 -genkey -noout -out ca.key
  openssl req -x509 -new -key ca.key -days 30 -subj "/CN=Test CA" -out ca.pem \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
  openssl ecparam -name prime256v1 -genkey -noout -out key.pem
  openssl req -new -key key.pem -subj "/CN=dc1.example.test" -out dc.csr
  printf 'subjectAltName=DNS:dc1.example.test,DNS:dc2.example.test,DNS:localhost,IP:%s\nextendedKeyUsage=serverAuth\n' "$address" >extensions
  openssl x509 -req -in dc.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out cert.pem
  chmod 600 key.pem ca.key
  cd "$folder"
}

kerberos() {
  cat >"$folder/krb5.conf" <<CONF
[libdefaults]
  default_realm = $realm
  dns_lookup_kdc = false
  dns_lookup_realm = false
  rdns = false
[realms]
  $realm = {
    kdc = $address
  }
CONF
}

listening() { (exec 3<>"/dev/tcp/$address/$1") 2>/dev/null; }

start() {
  setsid samba -s "$conf" -F --no-process-group --debug-stdout </dev/null >"$folder/log/samba-stdout.log" 2>&1 &
  samba=$!
  for _ in $(seq 300); do
    kill -0 "$samba" 2>/dev/null || { echo "samba ended at its start" >&2; exit 1; }
    if listening 389 && listening 636 && listening 88; then return; fi
    sleep 0.1
  done
  echo "samba did not open its ports within 30 s" >&2
  exit 1
}

unicode_pwd() { printf '"%s"' "$1" | iconv -t UTF-16LE | base64 -w0; }

fill() {
  ldapmodify -x -H "ldaps://$address" -D "Administrator@$realm" -w "$admin_password" >"$folder/log/fill.log" 2>&1 <<LDIF
dn: $base
changetype: modify
replace: minPwdLength
minPwdLength: 10
-
replace: minPwdAge
minPwdAge: 0
-
replace: lockoutThreshold
lockoutThreshold: 3
-
replace: lockoutDuration
lockoutDuration: -18000000000
-
replace: lockOutObservationWindow
lockOutObservationWindow: -18000000000

dn: OU=Staff,$base
changetype: add
objectClass: organizationalUnit

dn: CN=resident,OU=Staff,$base
changetype: add
objectClass: user
sAMAccountName: resident
userPrincipalName: resident@example.test
unicodePwd:: $(unicode_pwd "$service_password")
userAccountControl: 512

dn: OU=Other,$base
changetype: add
objectClass: organizationalUnit

dn: OU=Service,$base
changetype: add
objectClass: organizationalUnit

dn: CN=svc-reset,OU=Service,$base
changetype: add
objectClass: user
sAMAccountName: svc-reset
userPrincipalName: svc-reset@example.test
unicodePwd:: $(unicode_pwd "$service_password")
userAccountControl: 512
LDIF
}

# Four rights on the users below OU=Staff: Reset Password, Change Password, write lockoutTime, write pwdLastSet.
delegate() {
  local sid user=bf967aba-0de6-11d0-a285-00aa003049e2 sddl=
  sid=$(samba-tool user show svc-reset --attributes=objectSid -H "$sam" --configfile="$conf" | sed -n 's/^objectSid: //p')
  for right in 'CR;00299570-246d-11d0-a768-00aa006e0529' 'CR;ab721a53-1e2f-11d0-9819-00aa0040529b' \
    'WP;28630ebf-41d5-11d1-a9c1-0000f80367c1' 'WP;bf967a0a-0de6-11d0-a285-00aa003049e2'; do
    sddl+="(OA;CIIO;$right;$user;$sid)"
  done
  samba-tool dsacl set --objectdn="OU=Staff,$base" --sddl="$sddl" -H "$sam" --configfile="$conf" \
    >"$folder/log/delegate.log" 2>&1
}

certificate >/dev/null 2>&1
provision
kerberos
start
fill
delegate
echo ready
read -r _ || true

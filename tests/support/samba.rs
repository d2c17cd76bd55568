//! A real Active Directory: one Samba domain controller for the whole test run, started by the first test that asks.
//!
//! It listens on a loopback address that no other test run has, and goes away with this process, however that ends.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::Duration;

use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Mod, Scope, SearchEntry, dn_escape};
use uuid::Uuid;
use writeback_relay::net::tls_client;
use writeback_relay::storage::PrivateFile;

const BASE_DN: &str = "DC=example,DC=test";
const ADMIN_PASSWORD: &str = "Adm1n-Passw0rd!x";
pub(crate) const SERVICE_PASSWORD: &str = "Service-Passw0rd1";
const START_LIMIT: Duration = Duration::from_secs(120);

/// Programs without which there is no domain controller.
const PROGRAMS: [&str; 5] =
    ["/usr/sbin/samba", "/usr/bin/samba-tool", "/usr/bin/kinit", "/usr/bin/ldapmodify", "/usr/bin/openssl"];

/// The domain controller.
pub(crate) struct Dc {
    folder: PathBuf,
    address: Ipv4Addr,
    /// Closed when this process ends; then the domain controller stops itself.
    _alive: ChildStdin,
    users: AtomicU32,
}

/// Where an account stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ou {
    /// The service account may reset those below.
    Staff,
    /// It may not.
    Other,
}

/// An account.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) upn: String,
    pub(crate) dn: String,
    pub(crate) guid: Uuid,
}

/// The name of a Unix socket has so many bytes: unix(7).
const SOCKET_NAME: usize = 107;
/// Samba's, in its folder.
const LONGEST_SOCKET: &str = "/private/ldap_priv/ldapi";

/// The domain controller of this test run.
pub(crate) fn dc() -> &'static Dc {
    static DC: OnceLock<Result<Dc, String>> = OnceLock::new();
    DC.get_or_init(start).as_ref().unwrap_or_else(|why| panic!("the Samba domain controller did not start: {why}"))
}

fn start() -> Result<Dc, String> {
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !Path::new(program).exists()) {
        return Err(format!("{missing} is missing; run tests/setup"));
    }
    let address = free_address()?;
    let folder = tempfile::Builder::new().prefix("writeback-dc-").tempdir().map_err(|e| e.to_string())?;
    if folder.path().as_os_str().len() + LONGEST_SOCKET.len() > SOCKET_NAME {
        let path = folder.path().display();
        return Err(format!("{path} is too long for Unix sockets in it: set TMPDIR to a shorter folder"));
    }
    let folder = folder.keep();
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/samba-dc.sh"))
        .arg(&folder)
        .arg(address.to_string())
        .env("ADMIN_PASSWORD", ADMIN_PASSWORD)
        .env("SERVICE_PASSWORD", SERVICE_PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0) // Ctrl-C is for this process; the script cleans up after it
        .spawn()
        .map_err(|e| format!("tests/support/samba-dc.sh: {e}"))?;
    let alive = script.stdin.take().ok_or("no standard input")?;
    let (stdout, stderr) = (script.stdout.take().ok_or("no output")?, script.stderr.take().ok_or("no output")?);
    let (tell, ready) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let outcome = match BufReader::new(stdout).read_line(&mut line) {
            Ok(_) if line.trim() == "ready" => Ok(()),
            _ => {
                let mut why = String::new();
                let _ = BufReader::new(stderr).read_to_string(&mut why);
                Err(format!("{why} (it needs root, and the ports 88, 389 and 636 of {address})"))
            }
        };
        let _ = tell.send(outcome);
    });
    ready.recv_timeout(START_LIMIT).map_err(|_| format!("not ready within {START_LIMIT:?}"))??;
    let dc = Dc { folder, address, _alive: alive, users: AtomicU32::new(0) };
    PrivateFile::new(dc.folder.join("service-password")).replace(SERVICE_PASSWORD).map_err(|e| e.to_string())?;
    Ok(dc)
}

/// Made of this process's id, so that two test runs side by side have two.
fn free_address() -> Result<Ipv4Addr, String> {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let address = Ipv4Addr::new(127, 64 | (high & 0x3f), middle, low);
    TcpListener::bind((address, 636)).map(|_| address).map_err(|e| format!("{address}:636: {e}"))
}

impl Dc {
    /// Its own address stands in its certificate.
    pub(crate) fn ldaps_url(&self) -> String {
        format!("ldaps://{}", self.address)
    }

    /// For StartTLS.
    pub(crate) fn ldap_url(&self) -> String {
        format!("ldap://{}", self.address)
    }

    /// `host:port` of LDAPS, for a proxy between. Its certificate is for `localhost` too.
    pub(crate) fn ldaps_address(&self) -> String {
        format!("{}:636", self.address)
    }

    /// `host:port` of LDAP, for a proxy between.
    pub(crate) fn ldap_address(&self) -> String {
        format!("{}:389", self.address)
    }

    /// The CA of its certificate, as PEM.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.folder.join("tls/ca.pem")
    }

    /// The domain.
    pub(crate) fn base_dn(&self) -> &'static str {
        BASE_DN
    }

    /// The account with the four rights on OU=Staff, and the file with its password.
    pub(crate) fn service_account(&self) -> (String, PathBuf) {
        ("svc-reset@example.test".to_owned(), self.folder.join("service-password"))
    }

    /// A new account whose UPN begins with `name`; each test makes its own, so none locks out another.
    pub(crate) async fn create_user(&self, name: &str, ou: Ou, password: &str) -> User {
        self.create_user_in(name, &format!("OU={ou:?},{BASE_DN}"), password).await
    }

    /// The same, in any unit.
    pub(crate) async fn create_user_in(&self, name: &str, unit: &str, password: &str) -> User {
        let number = self.users.fetch_add(1, Ordering::Relaxed);
        let upn = format!("{name}.{number}@example.test");
        let dn = format!("CN={},{unit}", dn_escape(format!("{name} {number}")));
        let account_name = format!("user{number}");
        let attributes = [
            ("objectClass", b"user".to_vec()),
            ("sAMAccountName", account_name.into_bytes()),
            ("userPrincipalName", upn.clone().into_bytes()),
            ("unicodePwd", unicode_pwd(password)),
            ("userAccountControl", b"512".to_vec()),
        ];
        let attributes = attributes.map(|(name, value)| (name.as_bytes().to_vec(), HashSet::from([value])));
        let mut admin = self.administrator().await;
        admin.add(&dn, attributes.to_vec()).await.unwrap().success().unwrap();
        let guid = Self::read(&mut admin, &dn, "objectGUID").await;
        User { upn, dn, guid: Uuid::from_bytes_le(guid.try_into().unwrap()) }
    }

    /// Locks the account by wrong passwords.
    pub(crate) async fn lock(&self, user: &User) {
        for _ in 0..3 {
            assert_eq!(self.bind(&user.upn, "Wrong-Passw0rd-1").await, Err("52e".to_owned()));
        }
        assert_eq!(self.bind(&user.upn, "Wrong-Passw0rd-1").await, Err("775".to_owned()));
    }

    /// Lets the account log on again.
    pub(crate) async fn enable(&self, user: &User) {
        self.replace(user, "userAccountControl", "512").await;
    }

    /// Lets the account log on no longer.
    pub(crate) async fn disable(&self, user: &User) {
        self.replace(user, "userAccountControl", "514").await;
    }

    /// Sets an attribute as the domain's administrator.
    pub(crate) async fn replace(&self, user: &User, attribute: &str, value: &str) {
        let change = Mod::Replace(attribute, HashSet::from([value]));
        self.administrator().await.modify(&user.dn, vec![change]).await.unwrap().success().unwrap();
    }

    /// From now on the account's password must be so many days old before its user may change it. The other accounts'
    /// policy stays.
    pub(crate) async fn set_minimum_age(&self, user: &User, days: u32) {
        self.set_password_settings(user, days, 30 * 60).await;
    }

    /// The same of how long its lock lasts.
    pub(crate) async fn set_lock_seconds(&self, user: &User, seconds: u32) {
        self.set_password_settings(user, 0, seconds).await;
    }

    async fn set_password_settings(&self, user: &User, minimum_age_days: u32, lock_seconds: u32) {
        const SECOND: i64 = 10_000_000;
        const DAY: i64 = 24 * 3600 * SECOND;
        let name = format!("settings {}", self.users.fetch_add(1, Ordering::Relaxed));
        let dn = format!("CN={name},CN=Password Settings Container,CN=System,{BASE_DN}");
        let attributes = [
            ("objectClass", "msDS-PasswordSettings".to_owned()),
            ("msDS-PasswordSettingsPrecedence", "1".to_owned()),
            ("msDS-PasswordReversibleEncryptionEnabled", "FALSE".to_owned()),
            ("msDS-PasswordHistoryLength", "24".to_owned()),
            ("msDS-PasswordComplexityEnabled", "TRUE".to_owned()),
            ("msDS-MinimumPasswordLength", "10".to_owned()),
            ("msDS-MinimumPasswordAge", (-DAY * i64::from(minimum_age_days)).to_string()),
            ("msDS-MaximumPasswordAge", (-DAY * 42).to_string()),
            ("msDS-LockoutThreshold", "3".to_owned()),
            ("msDS-LockoutObservationWindow", (-SECOND * i64::from(lock_seconds)).to_string()),
            ("msDS-LockoutDuration", (-SECOND * i64::from(lock_seconds)).to_string()),
            ("msDS-PSOAppliesTo", user.dn.clone()),
        ];
        let attributes = attributes.map(|(name, value)| (name.to_owned(), HashSet::from([value])));
        self.administrator().await.add(&dn, attributes.to_vec()).await.unwrap().success().unwrap();
    }

    /// Sets a password as the domain's administrator.
    pub(crate) async fn set_password(&self, user: &User, password: &str) {
        let change = Mod::Replace(b"unicodePwd".to_vec(), HashSet::from([unicode_pwd(password)]));
        self.administrator().await.modify(&user.dn, vec![change]).await.unwrap().success().unwrap();
    }

    /// An attribute's value, as the domain's administrator sees it.
    pub(crate) async fn attribute(&self, user: &User, attribute: &str) -> String {
        String::from_utf8(Self::read(&mut self.administrator().await, &user.dn, attribute).await).unwrap()
    }

    /// An object's objectGUID.
    pub(crate) async fn guid(&self, dn: &str) -> Uuid {
        let guid = Self::read(&mut self.administrator().await, dn, "objectGUID").await;
        Uuid::from_bytes_le(guid.try_into().unwrap())
    }

    /// Gives the account another name, of its entry and for logons.
    pub(crate) async fn rename(&self, user: &User, name: &str) -> User {
        self.take_names(user, &format!("CN={}", dn_escape(name)), &format!("{}@example.test", name.replace(' ', ".")))
            .await
    }

    /// Gives the account this name within its unit, and this one for logons.
    pub(crate) async fn take_names(&self, user: &User, rdn: &str, upn: &str) -> User {
        let (_, unit) = user.dn.split_once(",OU=").unwrap();
        let mut admin = self.administrator().await;
        admin.modifydn(&user.dn, rdn, true, None).await.unwrap().success().unwrap();
        let renamed = User { dn: format!("{rdn},OU={unit}"), upn: upn.to_owned(), guid: user.guid };
        let change = Mod::Replace("userPrincipalName", HashSet::from([upn]));
        admin.modify(&renamed.dn, vec![change]).await.unwrap().success().unwrap();
        renamed
    }

    /// Moves the account to another unit.
    pub(crate) async fn move_to(&self, user: &User, ou: Ou) {
        let (rdn, _) = user.dn.split_once(",OU=").unwrap();
        let superior = format!("OU={ou:?},{BASE_DN}");
        let moved = self.administrator().await.modifydn(&user.dn, rdn, true, Some(&superior)).await;
        moved.unwrap().success().unwrap();
    }

    /// Logs on over LDAPS; the error is the `data` code of the refusal, such as `52e`.
    pub(crate) async fn bind(&self, name: &str, password: &str) -> Result<(), String> {
        let result = self.connect().await.simple_bind(name, password).await.unwrap();
        if result.rc == 0 {
            return Ok(());
        }
        let data = result.text.split_once(", data ").and_then(|(_, rest)| rest.split(',').next());
        Err(data.unwrap_or_else(|| panic!("{result}")).to_owned())
    }

    /// Logs on with Kerberos.
    pub(crate) fn kinit(&self, upn: &str, password: &str) -> bool {
        let cache = tempfile::NamedTempFile::new().unwrap();
        let mut kinit = Command::new("/usr/bin/kinit")
            .arg("-c")
            .arg(cache.path())
            .args(["-E", upn])
            .env("KRB5_CONFIG", self.folder.join("krb5.conf"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        writeln!(kinit.stdin.take().unwrap(), "{password}").unwrap();
        kinit.wait().unwrap().success()
    }

    /// Adds an object. An attribute may be named several times.
    pub(crate) async fn add(&self, dn: &str, attributes: &[(&str, &str)]) {
        let mut values: HashMap<&str, HashSet<&str>> = HashMap::new();
        for (name, value) in attributes {
            values.entry(name).or_default().insert(value);
        }
        let added = self.administrator().await.add(dn, values.into_iter().collect()).await;
        added.unwrap().success().unwrap();
    }

    /// Where it keeps everything.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The domain's administrator: name and password.
    pub(crate) fn administrator_account(&self) -> (&'static str, &'static str) {
        ("Administrator@example.test", ADMIN_PASSWORD)
    }

    pub(crate) async fn administrator(&self) -> Ldap {
        let mut ldap = self.connect().await;
        ldap.simple_bind("Administrator@example.test", ADMIN_PASSWORD).await.unwrap().success().unwrap();
        ldap
    }

    async fn connect(&self) -> Ldap {
        let tls = Arc::new(tls_client(Some(&self.ca_file())).unwrap());
        let settings = LdapConnSettings::new().set_conn_timeout(Duration::from_secs(10)).set_config(tls);
        let (connection, ldap) = LdapConnAsync::with_settings(settings, &self.ldaps_url()).await.unwrap();
        tokio::spawn(connection.drive());
        ldap
    }

    pub(crate) async fn read(ldap: &mut Ldap, dn: &str, attribute: &str) -> Vec<u8> {
        let found = ldap.search(dn, Scope::Base, "(objectClass=*)", vec![attribute]).await.unwrap();
        let entry = SearchEntry::construct(found.success().unwrap().0.pop().unwrap());
        let text = entry.attrs.get(attribute).and_then(|values| Some(values.first()?.clone().into_bytes()));
        let bytes = entry.bin_attrs.get(attribute).and_then(|values| values.first().cloned());
        text.or(bytes).unwrap_or_else(|| panic!("{dn} has no {attribute}"))
    }
}

pub(crate) fn unicode_pwd(password: &str) -> Vec<u8> {
    format!("\"{password}\"").encode_utf16().flat_map(u16::to_le_bytes).collect()
}

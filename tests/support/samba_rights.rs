//! Units, groups, service accounts and permissions of the domain controller, for tests of who may do what.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ldap3::{Mod, dn_escape};
use tokio::task::spawn_blocking;
use writeback_relay::storage::PrivateFile;

use super::samba::{Dc, SERVICE_PASSWORD, User};

/// A service account of a test's own.
pub(crate) struct Service {
    pub(crate) user: User,
    pub(crate) sid: String,
    pub(crate) password_file: PathBuf,
}

impl Dc {
    /// A new unit below `parent`.
    pub(crate) async fn create_unit(&self, name: &str, parent: &str) -> String {
        let dn = format!("OU={},{parent}", dn_escape(name));
        self.add(&dn, &[("objectClass", "organizationalUnit")]).await;
        dn
    }

    /// A new group with these members.
    pub(crate) async fn create_group(&self, name: &str, members: &[&str]) -> String {
        let dn = format!("CN={name},OU=Service,{}", self.base_dn());
        let mut attributes = vec![("objectClass", "group"), ("sAMAccountName", name)];
        attributes.extend(members.iter().map(|member| ("member", *member)));
        self.add(&dn, &attributes).await;
        dn
    }

    /// A new account without any rights.
    pub(crate) async fn create_service(&self, name: &str) -> Service {
        let user = self.create_user_in(name, &format!("OU=Service,{}", self.base_dn()), SERVICE_PASSWORD).await;
        let password_file = self.folder().join(format!("{name}-password"));
        PrivateFile::new(&password_file).replace(SERVICE_PASSWORD).unwrap();
        Service { sid: self.sid(&user.dn).await, user, password_file }
    }

    /// Takes a member into a group.
    pub(crate) async fn add_member(&self, group: &str, member: &str) {
        let change = Mod::Add("member", HashSet::from([member]));
        self.administrator().await.modify(group, vec![change]).await.unwrap().success().unwrap();
    }

    /// Takes a member out of a group.
    pub(crate) async fn remove_member(&self, group: &str, member: &str) {
        let change = Mod::Delete("member", HashSet::from([member]));
        self.administrator().await.modify(group, vec![change]).await.unwrap().success().unwrap();
    }

    /// An object's SID.
    pub(crate) async fn sid(&self, dn: &str) -> String {
        let bytes = Self::read(&mut self.administrator().await, dn, "objectSid").await;
        let words = bytes[8..].chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()).to_string());
        format!("S-1-{}-{}", bytes[7], words.collect::<Vec<_>>().join("-"))
    }

    /// An object's access list, as SDDL.
    pub(crate) async fn sddl(&self, dn: &str) -> String {
        let output = self.python(&[dn]).await;
        output.trim().to_owned()
    }

    /// Replaces it; or the owner, if that is what it begins with.
    pub(crate) async fn set_sddl(&self, dn: &str, sddl: &str) {
        self.python(&[dn, sddl]).await;
    }

    /// Adds entries to it, before all others.
    pub(crate) async fn permit(&self, dn: &str, entries: &str) {
        self.run(&format!("samba-tool dsacl set --objectdn='{dn}' --sddl='{entries}'")).await;
    }

    /// Runs a command as it is printed for an administrator of this domain controller.
    pub(crate) async fn run(&self, command: &str) {
        let (sam, conf) = self.files();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{command} -H '{sam}' --configfile='{}'", conf.display())]);
        finished(shell, command).await;
    }

    async fn python(&self, arguments: &[&str]) -> String {
        let (sam, conf) = self.files();
        // Samba's own modules are those of the system's Python.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/samba_acl.py")).arg(sam).arg(conf);
        python.args(arguments);
        finished(python, "samba_acl.py").await
    }

    fn files(&self) -> (String, PathBuf) {
        let at = |path: &str| self.folder().join(Path::new(path));
        (format!("tdb://{}", at("private/sam.ldb").display()), at("etc/smb.conf"))
    }
}

/// What it has printed.
async fn finished(mut command: Command, what: &str) -> String {
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null());
    let Output { status, stdout, stderr } = spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(status.success(), "{what}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

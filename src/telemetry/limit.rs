//! Everything that a node refuses because there is too much of it. `docs/operations.md` says when to raise which.

macro_rules! limits {
    ($($(#[$doc:meta])* $limit:ident, $name:literal;)*) => {
        /// A limit of a node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Limit { $($(#[$doc])* $limit,)* }

        impl Limit {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$limit),*];

            /// The label `limit` of `writeback_limits_hits_total`. A name that is exported stays.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$limit => $name,)* }
            }
        }
    };
}

limits! {
    /// New commands of a tenant, in a second.
    TenantRate, "tenant_rate";
    /// Commands of a tenant without an end.
    TenantInFlight, "tenant_in_flight";
    /// Agent sessions of a tenant.
    TenantSessions, "tenant_sessions";
    /// Invitations of a tenant.
    TenantInvitations, "tenant_invitations";
    /// Agents of a tenant, revoked ones too.
    TenantAgents, "tenant_agents";
    /// Agents of a tenant that nobody has approved.
    TenantUnapprovedAgents, "tenant_unapproved_agents";
    /// Rotations of one portal's key, in an hour.
    PortalRotations, "portal_rotations";
    /// Rotations of one agent's keys, in an hour.
    AgentRotations, "agent_rotations";
    /// What an agent found, in rows and in bytes: the rest is cut off.
    PreflightSize, "preflight_size";
    /// Sessions of one agent's process: the oldest is closed.
    AgentSessions, "agent_sessions";
    /// TLS handshakes at a time.
    TlsHandshakes, "tls_handshakes";
    /// Agent sessions that are opened at a time.
    SessionOpenings, "session_openings";
    /// TLS handshakes of an address, in a second.
    AddressHandshakes, "address_handshakes";
    /// Refused credentials of an address, in a minute.
    AddressRejections, "address_rejections";
    /// Connections at a time: each is a file of the process.
    Connections, "connections";
    /// The time until a request's headers are here.
    HeaderTimeout, "header_timeout";
    /// The time until a request's body is here.
    BodyTimeout, "body_timeout";
    /// A request's body, in bytes.
    BodySize, "body_size";
    /// An agent's frame, in bytes.
    FrameSize, "frame_size";
}

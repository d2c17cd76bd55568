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
    /// Requests of a portal that are not answered yet.
    PortalRequests, "portal_requests";
    /// Requests of all portals that are not answered yet.
    Requests, "requests";
    /// Connections of a portal.
    PortalConnections, "portal_connections";
    /// What a tenant's commands and outcomes measure in the store.
    TenantStored, "tenant_stored";
    /// Outcomes of an agent whose commands the store does not know.
    AgentForgotten, "agent_forgotten";
    /// Outcomes that nobody can have asked for: of an agent that is not approved, or for a portal that is not there.
    UnaskedOutcomes, "unasked_outcomes";
    /// Frames of a session, in a second: they are read later.
    SessionFrames, "session_frames";
    /// What waits for an agent that does not read: it is not read either.
    SessionUnread, "session_unread";
    /// Acknowledgements of a session.
    SessionAcknowledgements, "session_acknowledgements";
    /// Requests that an agent checks its directory.
    AgentChecks, "agent_checks";
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
    /// Connections of an address that have shown no valid credential.
    AddressConnections, "address_connections";
    /// Connections that have shown no valid credential.
    UnauthenticatedConnections, "unauthenticated_connections";
    /// The time in which a connection has to show a valid credential.
    AuthenticationTimeout, "authentication_timeout";
    /// Requests at a time of a connection that has shown no valid credential, and in all.
    UnauthenticatedRequests, "unauthenticated_requests";
    /// The time in which an answer has to be taken.
    AnswerTimeout, "answer_timeout";
    /// Memory of the process.
    Memory, "memory";
    /// Refused requests that are written to the log.
    RefusalLog, "refusal_log";
    /// Connections at a time: each is a file of the process.
    Connections, "connections";
    /// The time until a request's headers are here.
    HeaderTimeout, "header_timeout";
    /// The time until a request's body is here.
    BodyTimeout, "body_timeout";
    /// Bodies that are read at a time.
    Bodies, "bodies";
    /// Lists of agents that are put together at a time, or wait to be taken.
    AgentLists, "agent_lists";
    /// A request's body, in bytes.
    BodySize, "body_size";
    /// An agent's frame, in bytes.
    FrameSize, "frame_size";
}

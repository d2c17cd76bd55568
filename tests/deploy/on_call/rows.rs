//! The faults, and what shows each of them.

/// A fault, and where it is seen.
pub(super) struct Row {
    /// What has happened.
    pub(super) fault: &'static str,
    /// What the node that it is about says of itself.
    pub(super) readyz: Readyz,
    /// What any other node says.
    pub(super) status: Status,
    pub(super) alert: &'static str,
    pub(super) panel: Panel,
}

/// The answer of `/readyz`.
#[derive(Clone, Copy)]
pub(super) enum Readyz {
    /// 200 `ok`, and nothing more.
    Ok,
    /// This status, with these words in the body.
    Says(u16, &'static str),
    /// Nobody answers.
    Silent,
}

/// How the command `status` ends, and words that it says.
pub(super) struct Status {
    pub(super) exit: i32,
    pub(super) says: &'static str,
}

/// A panel of a dashboard.
pub(super) struct Panel {
    pub(super) dashboard: &'static str,
    pub(super) title: &'static str,
    pub(super) shows: Shows,
}

/// What a panel shows with the fault, and not without it.
#[derive(Clone, Copy)]
pub(super) enum Shows {
    Is(f64),
    Below(f64),
    Above(f64),
}

const fn status(exit: i32, says: &'static str) -> Status {
    Status { exit, says }
}

const fn overview(title: &'static str, shows: Shows) -> Panel {
    Panel { dashboard: "overview", title, shows }
}

const fn node(title: &'static str, shows: Shows) -> Panel {
    Panel { dashboard: "node", title, shows }
}

pub(super) const STOPPED: Row = Row {
    fault: "Redis is stopped",
    readyz: Readyz::Says(200, "ok; no writes are taken: redis does not answer"),
    status: status(1, "the store takes no writes: redis does not answer"),
    alert: "StoreAway",
    panel: overview("Store", Shows::Is(0.0)),
};

pub(super) const READ_ONLY: Row = Row {
    fault: "Redis is a read-only replica: a failover that the nodes were not told of",
    readyz: Readyz::Says(200, "ok; no writes are taken: redis is a read-only replica"),
    status: status(1, "the store takes no writes: redis is a read-only replica"),
    alert: "StoreRefusesWrites",
    panel: overview("Writes", Shows::Is(0.0)),
};

pub(super) const FULL: Row = Row {
    fault: "Redis is full",
    readyz: Readyz::Says(200, "ok; no writes are taken: redis has reached its maxmemory"),
    status: status(1, "the store takes no writes: redis has reached its maxmemory"),
    alert: "StoreRefusesWrites",
    panel: overview("Can a reset be done now?", Shows::Is(0.0)),
};

pub(super) const EMPTY: Row = Row {
    fault: "Redis came back empty",
    readyz: Readyz::Says(200, "ok; the registry is lost: "),
    status: status(1, "the registry is lost: "),
    alert: "RegistryLost",
    panel: overview("Registry", Shows::Is(-1.0)),
};

pub(super) const NOT_PERMITTED: Row = Row {
    fault: "Redis' ACL has taken its channels from the relay",
    readyz: Readyz::Says(200, "redis refuses a command to the relay's user"),
    status: status(1, "redis refuses a command to the relay's user"),
    alert: "StoreAway",
    panel: overview("Can a reset be done now?", Shows::Is(0.0)),
};

pub(super) const SLOW: Row = Row {
    fault: "Redis is slow: each answer takes 0.7 s",
    readyz: Readyz::Says(200, "ok; redis is slow: from this node and back it takes "),
    status: status(0, "redis is slow: from this node and back it takes "),
    alert: "StoreSlow",
    panel: node("Store", Shows::Above(0.25)),
};

pub(super) const FROZEN: Row = Row {
    fault: "One node hangs",
    readyz: Readyz::Silent,
    status: status(0, "serving"),
    alert: "NodeAway",
    panel: overview("Nodes", Shows::Is(2.0)),
};

pub(super) const NO_AGENTS: Row = Row {
    fault: "All agents are gone",
    readyz: Readyz::Ok,
    status: status(1, "no agent of this tenant is connected: no reset is possible"),
    alert: "NoAgents",
    panel: overview("Can a reset be done now?", Shows::Is(0.0)),
};

pub(super) const EXPIRED: Row = Row {
    fault: "The certificate has expired",
    readyz: Readyz::Ok,
    status: status(1, "the certificate of the node that tells this has ended"),
    alert: "CertificateEnds",
    panel: overview("Certificate", Shows::Below(0.0)),
};

pub(super) const WRONG_KEY: Row = Row {
    fault: "One node is started with another cluster key: it ends, and says so in its log",
    readyz: Readyz::Silent,
    status: status(0, "serving"),
    alert: "NodeAway",
    panel: overview("Nodes", Shows::Is(2.0)),
};

pub(super) const CLOCK_OFF: Row = Row {
    fault: "The clock of one node is off by five minutes",
    readyz: Readyz::Says(200, "ok; this host's clock is "),
    status: status(1, "its clock and that of Redis differ by more than 30 s"),
    alert: "ClockOff",
    panel: node("Clock", Shows::Above(30.0)),
};

pub(super) const DISK_FULL: Row = Row {
    fault: "The disk of `data_dir` is full (embedded store)",
    readyz: Readyz::Says(200, "ok; no writes are taken: the disk of data_dir is full"),
    status: status(1, "the store takes no writes: the disk of data_dir is full"),
    alert: "StoreRefusesWrites",
    panel: overview("Can a reset be done now?", Shows::Is(0.0)),
};

/// In the order in which they stand in the document.
pub(super) const ROWS: [&Row; 12] = [
    &STOPPED,
    &EMPTY,
    &READ_ONLY,
    &FULL,
    &NOT_PERMITTED,
    &SLOW,
    &FROZEN,
    &NO_AGENTS,
    &EXPIRED,
    &WRONG_KEY,
    &CLOCK_OFF,
    &DISK_FULL,
];

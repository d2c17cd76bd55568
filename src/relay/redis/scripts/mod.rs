//! The atomic steps: Lua in files of their own, each with its KEYS and ARGV at its head.

use std::sync::LazyLock;

use redis::{Cmd, ToRedisArgs, cmd};

/// One atomic step.
pub(super) struct Script {
    text: &'static str,
    sha1: String,
}

/// A step with its keys, all of one slot, and its arguments.
pub struct Call {
    script: &'static Script,
    keys: Vec<Vec<u8>>,
    arguments: Vec<Vec<u8>>,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, sha1: redis::Script::new(text).get_hash().to_owned() }
    }

    /// A call without keys yet.
    pub(super) fn prepare_invoke(&'static self) -> Call {
        Call { script: self, keys: Vec::new(), arguments: Vec::new() }
    }

    /// A call with its first key.
    pub(super) fn key(&'static self, key: impl ToRedisArgs) -> Call {
        let mut call = self.prepare_invoke();
        call.key(key);
        call
    }
}

impl Call {
    /// One more key.
    pub(super) fn key(&mut self, key: impl ToRedisArgs) -> &mut Self {
        key.write_redis_args(&mut self.keys);
        self
    }

    /// One more argument.
    pub(super) fn arg(&mut self, argument: impl ToRedisArgs) -> &mut Self {
        argument.write_redis_args(&mut self.arguments);
        self
    }

    /// For a server that has seen the script before: most of the time.
    pub(super) fn by_name(&self) -> Cmd {
        self.filled(cmd("EVALSHA").arg(&self.script.sha1))
    }

    /// For a server that has not. Unlike `SCRIPT LOAD` it goes to the one node of a Cluster that holds the keys, and
    /// does not need the others.
    pub(super) fn in_full(&self) -> Cmd {
        self.filled(cmd("EVAL").arg(self.script.text))
    }

    fn filled(&self, command: &mut Cmd) -> Cmd {
        command.arg(self.keys.len()).arg(&self.keys).arg(&self.arguments);
        std::mem::take(command)
    }
}

macro_rules! scripts {
    ($($name:ident $([$flags:literal])? = $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($("#!lua flags=", $flags, "\n",)? $(include_str!($file)),+)));)*
    };
}

// `allow-oom`: a step that is taken at maxmemory, too. Each of them writes little, and nobody can have it taken without end.
scripts! {
    ACCEPT = "life.lua" "counted.lua" "accept.lua";
    COMPLETE_SINCE = "life.lua" "complete_since.lua";
    HAND_OVER = "hand_over.lua";
    TAKE_OVER = "take_over.lua";
    TAKE_BACK = "counted.lua" "take_back.lua";
    NOTE = "note.lua";
    CONCLUDE = "counted.lua" "conclude.lua";
    REPLACE = "mark.lua" "replace.lua";
    REPLACE_ANYWAY["allow-oom"] = "mark.lua" "replace.lua";
    BEGIN_MARK["allow-oom"] = "mark.lua" "begin_mark.lua";
    MISS["allow-oom"] = "mark.lua" "miss.lua";
    TAKE_PLACE["allow-oom"] = "mark.lua" "take_place.lua";
    LEASE["allow-oom"] = "lease.lua";
    ENTER["allow-oom"] = "enter.lua";
    RELEASE["allow-oom"] = "release.lua";
}

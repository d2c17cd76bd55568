//! A process whose clock is wrong, as that of its host would be. The time since it was started stays right.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What the C library's function is replaced with: the linker's own way to change what a program is told.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *time) {
  int failed = syscall(SYS_clock_gettime, clock, time);
  const char *ahead = getenv("CLOCK_AHEAD");
  if (!failed && ahead && clock == CLOCK_REALTIME) time->tv_sec += atol(ahead);
  return failed;
}
"#;

/// What a shell does first, so that the process that it becomes is so many seconds ahead of everybody.
pub(crate) fn ahead(seconds: i64) -> String {
    format!("export LD_PRELOAD='{}' CLOCK_AHEAD={seconds}; ", library().display())
}

fn library() -> &'static PathBuf {
    static ONCE: OnceLock<PathBuf> = OnceLock::new();
    ONCE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let (source, new) = (folder.join("clock.c"), folder.join(format!("clock-{}.so", std::process::id())));
        std::fs::write(&source, SOURCE).unwrap();
        let said = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).args([&new, &source]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        // In one step: another process of these tests may be starting a program with it.
        let library = folder.join("clock.so");
        std::fs::rename(new, &library).unwrap();
        library
    })
}

//! What a process has of its host's time, memory and files, on Linux.

use std::fmt::Display;
use std::fs::{metadata, read_dir, read_to_string};

use rustix::param::page_size;

use super::clock_ticks_per_second;

/// Time and memory of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Of a processor, in the program and in the kernel for it, in seconds.
    pub cpu: f64,
    /// Memory that it has, in bytes.
    pub resident: u64,
    /// Memory that it may have asked for, in bytes.
    pub reserved: u64,
    /// When it was started, in seconds since the host was.
    started: f64,
}

impl Usage {
    /// This process's, if the kernel says it.
    #[must_use]
    pub fn now() -> Option<Self> {
        Self::of("self")
    }

    /// The same of this one: its number, or `self`.
    #[must_use]
    pub fn of(process: impl Display) -> Option<Self> {
        Self::read(&read_to_string(format!("/proc/{process}/stat")).ok()?, clock_ticks_per_second(), page_size())
    }

    /// From `proc_pid_stat(5)`.
    #[expect(clippy::cast_precision_loss, reason = "ticks of years fit 53 bits")]
    fn read(stat: &str, ticks_per_second: u64, page: usize) -> Option<Self> {
        // Behind the name, which may hold anything; the first of these is the page's third.
        let (_, behind) = stat.rsplit_once(") ")?;
        let field = |number: usize| behind.split(' ').nth(number - 3)?.trim().parse::<u64>().ok();
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
        Some(Self {
            cpu: seconds(field(14)? + field(15)?),
            started: seconds(field(22)?),
            reserved: field(23)?,
            resident: field(24)? * u64::try_from(page).ok()?,
        })
    }
}

/// When this process was started, in seconds since the epoch. The kernel says it of the clock as it is now, so ask once.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "seconds since the epoch fit 53 bits")]
pub fn started() -> Option<f64> {
    let host = read_to_string("/proc/stat").ok()?;
    let booted: u64 = host.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted as f64 + Usage::now()?.started)
}

/// How many files it has open.
#[must_use]
pub fn open_files() -> Option<u64> {
    const FILES: &str = "/proc/self/fd";
    // Linux 6.2 says it at once; before that the size of this folder was 0.
    let said = metadata(FILES).ok()?.len();
    // The last one is the folder itself.
    if said > 0 { Some(said) } else { u64::try_from(read_dir(FILES).ok()?.count().saturating_sub(1)).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_it_likes() {
        let stat = "7 (a) b) c) R 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 1 0 12000 4096000 10 184467\n";
        let usage = Usage { cpu: 2.0, resident: 40_960, reserved: 4_096_000, started: 120.0 };
        assert_eq!(Usage::read(stat, 100, 4096), Some(usage));
        assert_eq!(Usage::read("", 100, 4096), None);
        assert_eq!(Usage::read("7 (a) R 1", 100, 4096), None);
    }

    #[test]
    fn what_is_opened_and_taken_is_seen() {
        let (files, before) = (open_files().unwrap(), Usage::now().unwrap());
        let opened: Vec<_> = (0..50).map(|_| tempfile::tempfile().unwrap()).collect();
        // Other tests of this process open and close theirs meanwhile.
        assert!(open_files().unwrap() >= files.saturating_sub(20) + 30, "{files}");
        let taken = vec![1_u8; 64 << 20];
        let now = Usage::now().unwrap();
        assert!(now.resident > (60 << 20) && now.reserved >= now.resident && now.cpu >= before.cpu, "{now:?}");
        assert!((started().unwrap() - started().unwrap()).abs() < 2.0 && started().unwrap() > 1.0e9);
        drop((opened, taken));
    }
}

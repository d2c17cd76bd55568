//! What the process has of its host, by the names that Prometheus' client libraries give it.

use opentelemetry::metrics::Meter;

use super::instruments::{Described, Kind};
use crate::host::max_open_files;
use crate::host::process::{Usage, open_files, started};

const fn described(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Described {
    Described { name, kind, unit, labels: &[], by_tenant: false, help }
}

const CPU: Described =
    described("process.cpu", Kind::Counter, "s", "Time of a processor that the process has had, in the kernel too");
const RESIDENT: Described =
    described("process.resident_memory", Kind::Gauge, "By", "Memory that the process has, in bytes");
const VIRTUAL: Described =
    described("process.virtual_memory", Kind::Gauge, "By", "Addresses that the process has reserved, in bytes");
const OPEN: Described = described("process.open_fds", Kind::Gauge, "", "Files and connections that are open");
const MOST: Described = described("process.max_fds", Kind::Gauge, "", "How many of them there may be");
const START: Described =
    described("process.start_time", Kind::Gauge, "s", "When the process was started, in seconds since the epoch");

/// All of them.
pub(super) const ALL: &[Described] = &[CPU, RESIDENT, VIRTUAL, OPEN, MOST, START];

/// From now on whoever looks at the meter's metrics sees these, too, as they are at that moment.
pub(in crate::telemetry) fn observe(meter: &Meter) {
    let started = started();
    of(meter, &CPU, || Some(Usage::now()?.cpu));
    of(meter, &RESIDENT, || Usage::now().map(|usage| count(usage.resident)));
    of(meter, &VIRTUAL, || Usage::now().map(|usage| count(usage.reserved)));
    of(meter, &OPEN, || open_files().map(count));
    of(meter, &MOST, || u64::try_from(max_open_files()).ok().map(count));
    of(meter, &START, move || started);
}

fn of(meter: &Meter, metric: &Described, now: impl Fn() -> Option<f64> + Send + Sync + 'static) {
    let Described { name, kind, unit, help, .. } = *metric;
    if kind == Kind::Counter {
        let counter = meter.f64_observable_counter(name).with_unit(unit).with_description(help);
        counter.with_callback(move |to| now().into_iter().for_each(|value| to.observe(value, &[]))).build();
    } else {
        let gauge = meter.f64_observable_gauge(name).with_unit(unit).with_description(help);
        gauge.with_callback(move |to| now().into_iter().for_each(|value| to.observe(value, &[]))).build();
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and files of a process fit 53 bits")]
fn count(value: u64) -> f64 {
    value as f64
}

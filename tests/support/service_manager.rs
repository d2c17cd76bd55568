//! systemd, as a service meets it.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tempfile::TempDir;

use super::eventually;

/// As systemd listens to a service: all the time. A service that nobody listens to waits, once ten messages are under way.
pub(crate) struct Manager {
    folder: TempDir,
    ear: Arc<Mutex<Ear>>,
}

struct Ear {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Ear {
    /// Takes in what was said until now.
    fn listen(&mut self) {
        let mut message = [0; 1024];
        while let Ok(len) = self.socket.recv(&mut message) {
            let said = String::from_utf8_lossy(&message[..len]);
            self.heard.extend(said.lines().map(str::to_owned));
        }
    }
}

impl Manager {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        socket.set_nonblocking(true).unwrap();
        let ear = Arc::new(Mutex::new(Ear { socket, heard: Vec::new() }));
        let listening = Arc::downgrade(&ear);
        std::thread::spawn(move || {
            while let Some(ear) = listening.upgrade() {
                ear.lock().listen();
                drop(ear);
                std::thread::park_timeout(Duration::from_millis(10));
            }
        });
        Self { folder, ear }
    }

    /// What a service finds in its environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 2] {
        let socket = self.folder.path().join("notify").display().to_string();
        [("NOTIFY_SOCKET", socket), ("WATCHDOG_USEC", "200000".to_owned())]
    }

    /// All that was said until now, and was not forgotten.
    pub(crate) fn heard(&self) -> Vec<String> {
        let mut ear = self.ear.lock();
        ear.listen();
        ear.heard.clone()
    }

    /// Forgets what was said until now.
    pub(crate) fn forget(&self) {
        let mut ear = self.ear.lock();
        ear.listen();
        ear.heard.clear();
    }

    /// Waits until so many lines hold this.
    pub(crate) async fn hears(&self, what: &str, times: usize) {
        let enough = || self.heard().iter().filter(|said| said.contains(what)).count() >= times;
        eventually(what, || std::future::ready(enough())).await;
    }
}

/// systemd finds no fault with the unit of this name, and no more than so much to attack (of 100).
pub(crate) fn analyzed(name: &str, program: &str, exposure: u32) {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join(format!("{name}.service"));
    let text = std::fs::read_to_string(format!("deploy/{name}.service")).unwrap();
    // The program need not be installed where the tests run.
    std::fs::write(&unit, text.replace(&format!("/usr/local/bin/{name}"), program)).unwrap();
    let analyze = |arguments: &[&str]| {
        let said = Command::new("systemd-analyze").args(arguments).arg(&unit).output().expect("systemd is installed");
        let [out, err] = [&said.stdout, &said.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        (said.status.success(), out + &err)
    };
    let (verified, said) = analyze(&["verify"]);
    assert!(verified && !said.contains(&format!("{name}.service:")), "{said}");
    let (safe, said) = analyze(&["security", "--offline=true", &format!("--threshold={exposure}")]);
    assert!(safe, "{said}");
}

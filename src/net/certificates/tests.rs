use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A folder with what Windows and OpenSSL make of a server's certificate from an intermediate CA of a root.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.run(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.pem \
                   -days 9 -subj /CN=Root -addext basicConstraints=critical,CA:TRUE",
        );
        for (name, from, extension) in
            [("middle", "root", "basicConstraints=critical,CA:TRUE"), ("leaf", "middle", "basicConstraints=CA:FALSE")]
        {
            std::fs::write(files.path(&format!("{name}.ext")), extension).unwrap();
            files.run(&format!(
                "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ));
            files.run(&format!(
                "openssl x509 -req -in {name}.csr -CA {from}.pem -CAkey {from}.key -CAcreateserial -days 9 -out {name}.pem \
                 -extfile {name}.ext"
            ));
        }
        files
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, command: &str) {
        let mut words = command.split_whitespace();
        let done = Command::new(words.next().unwrap()).args(words).current_dir(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{command}: {done:?}");
    }

    fn write(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }
}

/// The same text as editors and programs of Windows write it, and forms on web pages.
fn as_windows_writes(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let utf16 = |bytes: fn(u16) -> [u8; 2]| format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect();
    vec![
        ("a byte order mark", format!("\u{feff}{text}").into_bytes()),
        ("CRLF", text.replace('\n', "\r\n").into_bytes()),
        ("both", format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes()),
        ("UTF-16", utf16(u16::to_le_bytes)),
        ("UTF-16, the other order", utf16(u16::to_be_bytes)),
        ("one line", text.replace('\n', " ").into_bytes()),
        ("attributes before it", format!("Bag Attributes\n    friendlyName: x\n{text}").into_bytes()),
    ]
}

#[test]
fn a_certificate_is_taken_in_every_form_that_windows_exports() {
    let files = Files::new();
    let root = read_authorities(&files.path("root.pem")).unwrap();
    files.run("openssl x509 -in root.pem -outform DER -out root.cer");
    let mut forms = as_windows_writes(&files.text("root.pem"));
    forms.push(("DER", std::fs::read(files.path("root.cer")).unwrap()));
    files.run("openssl crl2pkcs7 -nocrl -certfile root.pem -out root.p7b");
    files.run("openssl crl2pkcs7 -nocrl -certfile root.pem -outform DER -out der.p7b");
    forms.push(("PKCS#7 as DER", std::fs::read(files.path("der.p7b")).unwrap()));
    let pkcs7 = files.text("root.p7b");
    forms.extend(as_windows_writes(&pkcs7));
    // As certificate services name it.
    forms.push(("PKCS#7 called a certificate", pkcs7.replace("PKCS7", "CERTIFICATE").into_bytes()));
    let bare: String = files.text("root.pem").lines().filter(|line| !line.starts_with('-')).collect();
    forms.push(("base64 alone", bare.into_bytes()));
    files.run("openssl x509 -in root.pem -trustout -out trusted.pem");
    forms.push(("OpenSSL's own", std::fs::read(files.path("trusted.pem")).unwrap()));
    for (form, bytes) in forms {
        assert_eq!(read_authorities(&files.write("form", &bytes)).as_ref(), Ok(&root), "{form}");
    }
    assert_eq!(read_authorities(&files.write("again", to_pem(&root).as_bytes())).unwrap(), root);
}

#[test]
fn of_a_whole_chain_from_windows_the_cas_are_trusted_and_a_server_shows_it_in_order() {
    let files = Files::new();
    let of = |name: &str| read_authorities(&files.path(name)).unwrap().remove(0);
    let (root, middle, leaf) = (of("root.pem"), of("middle.pem"), of("leaf.pem"));
    files.run(
        "openssl crl2pkcs7 -nocrl -certfile root.pem -certfile leaf.pem -certfile middle.pem -outform DER -out all.p7b",
    );
    let trusted = read_authorities(&files.path("all.p7b")).unwrap();
    assert!(trusted.len() == 2 && trusted.contains(&root) && trusted.contains(&middle));
    assert_eq!(read_chain(&files.path("all.p7b")).unwrap(), [leaf, middle, root]);
}

#[test]
fn a_key_is_taken_as_pem_or_der() {
    let files = Files::new();
    let key = read_private_key(&files.path("leaf.key")).unwrap();
    for (form, bytes) in as_windows_writes(&files.text("leaf.key")) {
        assert_eq!(read_private_key(&files.write("form", &bytes)).unwrap().secret_der(), key.secret_der(), "{form}");
    }
    files.run("openssl pkcs8 -topk8 -nocrypt -in leaf.key -outform DER -out key.der");
    assert_eq!(read_private_key(&files.path("key.der")).unwrap().secret_der(), key.secret_der());
    files.run("openssl ec -in leaf.key -out sec1.pem");
    files.run("openssl ec -in leaf.key -outform DER -out sec1.der");
    for sec1 in ["sec1.pem", "sec1.der"] {
        assert!(matches!(read_private_key(&files.path(sec1)), Ok(PrivateKeyDer::Sec1(_))), "{sec1}");
    }
    let both = files.write("both.pem", format!("{}{}", files.text("leaf.pem"), files.text("leaf.key")).as_bytes());
    assert!(read_chain(&both).is_ok() && read_private_key(&both).is_ok());
}

#[test]
fn what_can_t_be_taken_is_named_with_the_command_that_converts_it() {
    let files = Files::new();
    files.run("openssl pkcs12 -export -in leaf.pem -inkey leaf.key -out leaf.pfx -passout pass:secret");
    files.run("openssl pkey -in leaf.key -aes256 -passout pass:secret -out locked.key");
    files.run("openssl pkcs8 -topk8 -in leaf.key -v2 aes256 -passout pass:secret -outform DER -out locked.der");
    files.run("openssl ec -in leaf.key -aes256 -passout pass:secret -out old.key");
    files.run("openssl x509 -in root.pem -outform DER -out root.cer");
    let cut = std::fs::read(files.path("root.cer")).unwrap();
    files.write("cut.cer", &cut[..cut.len() / 2]);
    files.write("cut.pem", &files.text("root.pem").as_bytes()[..200]);
    files.write("empty.pem", b"\xef\xbb\xbf\r\n");
    files.write("page.cer", b"<!DOCTYPE html><html><body>Log on</body></html>");
    files.write("store.sst", b"\0\0\0\0CERT\x20\0\0\0");
    files.write("words.pem", b"here is no certificate");
    for (file, says) in [
        ("leaf.pfx", "openssl pkcs12 -in "),
        ("leaf.key", "private key"),
        ("leaf.csr", "request"),
        ("cut.cer", "cut off"),
        ("cut.pem", "cut off"),
        ("empty.pem", "empty"),
        ("page.cer", "web page"),
        ("store.sst", "Base-64"),
        ("words.pem", "openssl x509 -in "),
        ("locked.key", "private key"),
        ("missing.pem", "No such file"),
    ] {
        for read in [read_authorities, read_chain] {
            let why = read(&files.path(file)).unwrap_err();
            assert!(why.contains(says) && !why.contains("Error"), "{file}: {why}");
        }
    }
    for (file, says) in [
        ("leaf.pfx", "-nocerts -nodes -out key.pem"),
        ("locked.key", "openssl pkey -in "),
        ("locked.der", "openssl pkey -in "),
        ("old.key", "openssl pkey -in "),
        ("leaf.pem", "it holds a certificate"),
        ("root.cer", "it holds a certificate"),
        ("empty.pem", "empty"),
    ] {
        let why = read_private_key(&files.path(file)).unwrap_err();
        assert!(why.contains(says), "{file}: {why}");
    }
    // The commands that are named work.
    files.run("openssl pkcs12 -in leaf.pfx -nocerts -nodes -out key.pem -passin pass:secret");
    assert!(read_private_key(&files.path("key.pem")).is_ok());
}

//! The certificate of listeners that were given none: self-signed for `localhost`, made once, kept under `prefix/ssl`.
//!
//! Kong: makes an RSA and an ECDSA pair; here ECDSA alone, which every client of this decade takes.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustls::sign::CertifiedKey;

use crate::listen::tls::pem;

const KEY_MODE: u32 = 0o600;
const CERT_MODE: u32 = 0o644;

/// The pair `prefix/ssl/NAME-default.{crt,key}`; made when either file is missing.
pub(super) fn pair(prefix: &Path, name: &str) -> Result<CertifiedKey, String> {
    let folder = prefix.join("ssl");
    let cert_path = folder.join(format!("{name}-default.crt"));
    let key_path = folder.join(format!("{name}-default.key"));
    if !(cert_path.exists() && key_path.exists()) {
        let (cert, key) = make().map_err(|error| format!("cannot make a certificate: {error}"))?;
        store(&folder, &[(&key_path, &key, KEY_MODE), (&cert_path, &cert, CERT_MODE)])
            .map_err(|error| format!("cannot keep a certificate in {}: {error}", folder.display()))?;
    }
    let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    let (cert, key) = (read(&cert_path)?, read(&key_path)?);
    pem::parse_pair(&cert, &key).map_err(|why| format!("cannot use {}: {why}", cert_path.display()))
}

fn make() -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()])?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "localhost");
    params.not_after = rcgen::date_time_ymd(2046, 1, 1);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Each file appears whole or not at all; the key first, so that a certificate never stands without one.
fn store(folder: &Path, files: &[(&Path, &str, u32)]) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    for (path, text, mode) in files {
        let draft = path.with_extension("new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(*mode).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
    }
    Ok(())
}

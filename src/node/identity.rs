//! The node's stable name: `node_id`, else Fly's Machine id, else a UUID kept under the prefix.

use std::fs;
use std::io;
use std::path::Path;

use uuid::Uuid;

/// The name that is kept in `prefix`, made at the first start.
pub fn kept(prefix: &Path) -> io::Result<String> {
    let path = prefix.join("node_id");
    if let Ok(text) = fs::read_to_string(&path)
        && let Ok(id) = text.trim().parse::<Uuid>()
    {
        return Ok(id.to_string());
    }
    fs::create_dir_all(prefix)?;
    let id = Uuid::new_v4().to_string();
    let fresh = prefix.join("node_id.new");
    fs::write(&fresh, format!("{id}\n"))?;
    fs::rename(&fresh, &path)?;
    Ok(id)
}

/// The machine's name, as `GET /` shows it.
pub fn hostname() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    kernel.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_survives_a_restart_and_garbage_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let first = kept(folder.path()).unwrap();
        assert_eq!(kept(folder.path()).unwrap(), first);
        fs::write(folder.path().join("node_id"), "../../etc").unwrap();
        assert!(kept(folder.path()).unwrap().parse::<Uuid>().is_ok());
    }
}

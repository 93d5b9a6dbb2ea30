//! Places for the directories of groups, and whether they may be trusted.

use std::fs::{DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::LOCK;
use crate::sys::user;

/// A place that may hold directories of groups.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) path: PathBuf,
    /// Others could have made it before us: it must be ours.
    pub(super) exposed: bool,
}

/// All places, the best first; only the one that the user names, if he does.
pub(super) fn bases(runtime_dir: Option<&Path>) -> Vec<Base> {
    if let Some(path) = runtime_dir {
        return vec![Base {
            path: path.to_owned(),
            exposed: false,
        }];
    }
    let mut bases = vec![Base {
        path: PathBuf::from("/run/forebay"),
        exposed: false,
    }];
    let of_session = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    bases.extend(of_session.map(|path| Base {
        path: path.join("forebay"),
        exposed: true,
    }));
    bases.push(Base {
        path: PathBuf::from(format!("/tmp/forebay-{}", user::user_id())),
        exposed: true,
    });
    bases
}

/// Why a directory may not be trusted: strangers could change what is in it.
fn distrust(found: &Metadata, owners: &[u32]) -> Option<String> {
    if !found.is_dir() {
        Some("it is not a directory; remove it".to_owned())
    } else if found.mode() & 0o022 != 0 {
        Some("others may write there; run chmod go-w on it".to_owned())
    } else if !owners.contains(&found.uid()) {
        Some(format!(
            "it belongs to user {}; remove it, or name another with --runtime-dir",
            found.uid()
        ))
    } else {
        None
    }
}

/// As [`distrust`], for a directory in which each may change what is his, such as `/tmp`.
fn distrust_unless_sticky(found: &Metadata, owners: &[u32]) -> Option<String> {
    let sticky = found.is_dir() && found.mode() & 0o1000 != 0;
    if sticky {
        None
    } else {
        distrust(found, owners)
    }
}

/// Makes the directory of a group, for its owner alone, or takes the one that is there as it is; says why it cannot be used.
pub(super) fn make(base: &Base, prefix: &str, group: Option<u32>) -> Result<PathBuf, String> {
    let user = user::user_id();
    let owners = [user, 0];
    let text = |error: io::Error| error.to_string();
    // Others must pass through it to come to what is shared with them.
    let mode = if base.exposed && group.is_none() {
        0o700
    } else if base.exposed {
        0o711
    } else {
        0o755
    };
    match DirBuilder::new().mode(mode).create(&base.path) {
        // Nobody would remove parents that were made on the way.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = base.path.parent().unwrap_or(&base.path);
            return Err(format!(
                "there is no directory {}; create it",
                parent.display()
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(text(error)),
        _ => {}
    }
    if base.exposed {
        let found = base.path.symlink_metadata().map_err(text)?;
        distrust(&found, &[user]).map_or(Ok(()), Err)?;
    } else {
        distrust_unless_sticky(&base.path.metadata().map_err(text)?, &owners)
            .map_or(Ok(()), Err)?;
    }
    let path = base.path.canonicalize().map_err(text)?.join(prefix);
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(text(error)),
        _ => {}
    }
    let found = path.symlink_metadata().map_err(text)?;
    if !found.is_dir() || !owners.contains(&found.uid()) {
        return Err(distrust(&found, &owners).unwrap_or_default());
    }
    may_write(&path).map_err(text)?;
    Ok(path)
}

/// Whether this process may make files in the directory.
pub(super) fn may_write(path: &Path) -> io::Result<()> {
    let access = rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK;
    rustix::fs::access(path, access).map_err(io::Error::from)
}

/// Opens the directory of a group to a Unix group, or to nobody else. For the primary: a group that lives there has its own mind.
pub(super) fn open_up(path: &Path, exposed: bool, group: Option<u32>) -> io::Result<()> {
    let user = user::user_id();
    if user != 0 && path.symlink_metadata()?.uid() != user {
        return Ok(());
    }
    // Others must pass through our place to come to what is shared with them.
    if let Some(place) = path.parent()
        && exposed
        && group.is_some()
        && place.symlink_metadata()?.mode() & 0o011 != 0o011
    {
        std::fs::set_permissions(place, Permissions::from_mode(0o711))?;
    }
    std::os::unix::fs::lchown(path, None, group)?;
    let mode = if group.is_some() { 0o750 } else { 0o700 };
    std::fs::set_permissions(path, Permissions::from_mode(mode))
}

/// The directory of a group that is there; `None` if it is not; says why it cannot be used.
pub(super) fn enter(base: &Base, prefix: &str) -> Result<Option<PathBuf>, String> {
    let gone = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
        )
    };
    let user = user::user_id();
    if base.exposed
        && base
            .path
            .symlink_metadata()
            .is_ok_and(|found| distrust(&found, &[user]).is_some())
    {
        // A stranger's trap is no group of ours.
        return Ok(None);
    }
    let Ok(canonical) = base.path.canonicalize() else {
        return Ok(None);
    };
    let path = canonical.join(prefix);
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if gone(&error) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    // Another user's directory is entered where he may put one: in the system's place, or where we were told to look.
    let owners = if base.exposed {
        vec![user]
    } else {
        vec![user, 0, found.uid()]
    };
    distrust(&found, &owners).map_or(Ok(()), Err)?;
    match path.join(LOCK).symlink_metadata() {
        Ok(_) => Ok(Some(path)),
        Err(error) if gone(&error) => Ok(None),
        Err(error) => Err(format!(
            "{error}; its primary opens it to others with --group"
        )),
    }
}

//! The workspace as cargo sees it: members, their dependencies and their targets.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The repository and what is in it.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// Where the top `Cargo.toml` lies.
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    pub(crate) target_dir: PathBuf,
    /// All packages of the workspace.
    pub(crate) members: Vec<Member>,
}

/// One package of the workspace.
#[derive(Debug)]
pub(crate) struct Member {
    /// The name in its manifest.
    pub(crate) name: String,
    /// Where its manifest lies.
    pub(crate) dir: PathBuf,
    /// Other members it depends on.
    pub(crate) uses: Vec<String>,
    /// Other members that only its tests, examples and benches depend on.
    pub(crate) tests_use: Vec<String>,
    /// The first source file of each target.
    pub(crate) roots: Vec<PathBuf>,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// If cargo cannot be run or answers something else than metadata.
    pub(crate) fn find() -> Result<Self> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .output()
            .context("cannot run `cargo metadata`")?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "`cargo metadata` failed: {}",
            complaint.trim()
        );
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .context("`cargo metadata` did not print what it should")?;
        let packages = metadata["packages"]
            .as_array()
            .context("metadata without packages")?;
        let names: Vec<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
        let members = packages
            .iter()
            .filter_map(|p| Member::from_metadata(p, &names))
            .collect();
        Ok(Self {
            root: path(&metadata["workspace_root"]).context("metadata without root")?,
            target_dir: path(&metadata["target_directory"]).context("metadata without target")?,
            members,
        })
    }

    /// The member of that name.
    pub(crate) fn member(&self, name: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.name == name)
    }

    /// `path` as seen from the root, for messages.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }
}

impl Member {
    fn from_metadata(package: &Value, names: &[&str]) -> Option<Self> {
        let dependencies = package["dependencies"].as_array()?;
        let members = |is_for_tests: bool| {
            let mut found: Vec<String> = dependencies
                .iter()
                .filter(|dependency| (dependency["kind"].as_str() == Some("dev")) == is_for_tests)
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|name| names.contains(name))
                .map(str::to_owned)
                .collect();
            found.sort();
            found.dedup();
            found
        };
        Some(Self {
            name: package["name"].as_str()?.to_owned(),
            dir: path(&package["manifest_path"])?.parent()?.to_owned(),
            uses: members(false),
            tests_use: members(true),
            roots: package["targets"]
                .as_array()?
                .iter()
                .filter_map(|target| path(&target["src_path"]))
                .collect(),
        })
    }
}

fn path(value: &Value) -> Option<PathBuf> {
    value.as_str().map(PathBuf::from)
}

/// The cargo that runs us, so that the pinned toolchain is kept.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_workspace_is_found() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root.join("xtask/src/workspace.rs").exists());
        let ring = workspace.member("forebay-ring").unwrap();
        assert_eq!(ring.uses, ["forebay-eal"]);
        assert!(
            ring.roots
                .contains(&workspace.root.join("crates/ring/src/lib.rs"))
        );
    }
}

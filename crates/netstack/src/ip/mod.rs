//! Addresses, routes, paths, fragments.

pub mod address;
pub mod autoconf;
pub mod dad;
pub mod fragment;
pub mod group;
pub mod path;
pub mod rate;
pub mod reassembly;
pub mod route;
pub(crate) mod version;

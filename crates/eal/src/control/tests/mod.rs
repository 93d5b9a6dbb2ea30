//! Server and client together, and clients that mean no good.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, send, sendmsg,
};

use super::body::{Found, Offer};
use super::client::Client;
use super::frame::{Frame, Kind, VERSION};
use super::hall::Hall;
use super::place::{Place, SOCKET};
use super::server::Server;
use super::wake::Wake;
use super::*;
use crate::error::Error;
use crate::region::Region;

mod members;
mod request;
mod stranger;

/// What a primary shares that nobody else's memory is needed for.
pub(super) fn hall(adopted: bool) -> Arc<Hall> {
    let wake = Some(Wake::new().unwrap());
    Arc::new(Hall::new(region(), adopted, Arc::default(), wake))
}

fn region() -> &'static Region {
    Box::leak(Box::new(Region::anonymous(1 << 16).unwrap()))
}

/// A server in a directory of its own, and what it hands out.
struct Setting {
    dir: tempfile::TempDir,
    table: Arc<Hall>,
    server: Server,
}

impl Setting {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let table = hall(true);
        let server = Server::start(dir.path(), None, Arc::clone(&table)).unwrap();
        Self { dir, table, server }
    }

    fn client(&self) -> Client {
        Client::open(self.dir.path(), "rte").unwrap()
    }

    /// A connection that no `Client` made.
    fn raw(&self) -> OwnedFd {
        Place::open(self.dir.path()).unwrap().connect().unwrap()
    }
}

fn memory_file(content: &[u8]) -> OwnedFd {
    let file = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    File::from(file.try_clone().unwrap())
        .write_all(content)
        .unwrap();
    file
}

/// Waits for the server's answer on a raw connection; empty when it hung up.
fn answer(socket: &OwnedFd) -> Vec<u8> {
    rustix::fs::fcntl_setfl(socket, rustix::fs::OFlags::empty()).unwrap();
    let limit = Some(TIME_LIMIT * 3);
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, limit)
        .unwrap();
    let mut bytes = vec![0; 1024];
    match rustix::net::recv(socket, &mut bytes[..], rustix::net::RecvFlags::empty()) {
        Ok((len, _)) => bytes.truncate(len),
        Err(rustix::io::Errno::CONNRESET) => bytes.clear(),
        Err(error) => panic!("no answer: {error}"),
    }
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    let frame = Frame::decode(bytes).unwrap();
    assert_eq!(frame.kind, Kind::Refused);
    String::from_utf8(frame.body.to_vec()).unwrap()
}

/// Reads a request from the next connection and gives it that answer.
fn answer_next(listener: &OwnedFd, answer: &[u8]) {
    let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC).unwrap();
    let mut request = [0; 200];
    rustix::net::recv(&socket, &mut request[..], rustix::net::RecvFlags::empty()).unwrap();
    send(&socket, answer, SendFlags::empty()).unwrap();
}

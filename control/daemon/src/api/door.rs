//! The doors of the API, a socket of the file system and an address: who may come in, how many at a time, for how long.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fs, io};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use tokio::net::unix::UCred;
use tokio::sync::Semaphore;

use super::gate::Gate;
use super::token::Token;
use super::{Api, Reply, pulse};
use crate::config::{self, HttpConfig};
use crate::exit::{self, Failure};
use crate::http::converse;

/// Connections of one user at a time, and of all but root, who has as many as any of them for itself.
const USER_MAX: usize = 8;
const USERS_MAX: usize = 24;
/// Connections at the address at a time, whose users are not known; one more is hung up on.
const TCP_MAX: usize = 32;
/// A connection ends after this, whatever it is at: the largest answer to a reader that takes its time.
const WHOLE: Duration = Duration::from_secs(8);
/// Who is refused is told why, so many at a time and so long; others beside them are hung up on.
const REFUSED_MAX: usize = 32;
const REFUSAL: Duration = Duration::from_secs(1);
/// An address that somebody else has is tried again after this.
const BIND_AGAIN: Duration = Duration::from_secs(1);

/// The socket, which is gone from the file system with this.
pub(crate) struct Door {
    path: PathBuf,
    listener: Option<UnixListener>,
    guests: Guests,
    address: Option<Address>,
}

/// The address of the page.
struct Address {
    listen: SocketAddr,
    /// None as long as somebody else has it.
    listener: Option<TcpListener>,
    gate: Arc<Gate>,
}

impl Door {
    /// Opens it, mode 0660, for the group of `config`.
    ///
    /// # Errors
    /// The folder or the socket can't be made or given to the group, or another process listens there.
    pub(crate) fn open(config: &HttpConfig) -> Result<Door, Failure> {
        let path = &config.socket;
        let failed = |error: io::Error| {
            let code = Failure::from(io::Error::from(error.kind())).code;
            let path = path.display();
            Failure::new(code, format!("[http] socket: {path}: {error}"))
        };
        let group = config::group(&config.group)
            .map_err(|why| Failure::new(exit::CONFIG, format!("[http] group: {why}")))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        make_room(path).map_err(failed)?;
        let address = address(config)?;
        let listener = UnixListener::bind(path).map_err(failed)?;
        let door = Door {
            address,
            path: path.clone(),
            listener: Some(listener),
            guests: Guests {
                own: rustix::process::geteuid().as_raw(),
                group: group.unwrap_or_else(|| rustix::process::getegid().as_raw()),
                inside: Arc::default(),
            },
        };
        if let Some(group) = group {
            chown(path, None, Some(group)).map_err(|error| {
                let path = path.display();
                let why =
                    "make this process's user a member of it (SupplementaryGroups= in its unit)";
                Failure::new(
                    exit::PERMISSION,
                    format!("[http] group: {path}: {error}: {why}"),
                )
            })?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).map_err(failed)?;
        Ok(door)
    }

    /// Where the page is, with the token in the fragment.
    pub(crate) fn dashboard(&self) -> Option<String> {
        let address = self.address.as_ref()?;
        let bound = address.listener.as_ref();
        let listen = bound.map_or(Ok(address.listen), TcpListener::local_addr);
        let token = address.gate.token();
        Some(format!("http://{}/#{token}", listen.ok()?))
    }

    /// Whether the page's address could be had.
    pub(crate) fn is_bound(&self) -> bool {
        let address = self.address.as_ref();
        address.is_some_and(|address| address.listener.is_some())
    }

    /// Answers on a thread of its own, for as long as the process lives.
    ///
    /// # Errors
    /// There is no thread or descriptor to be had.
    pub(crate) fn serve(&mut self, api: Api) -> io::Result<()> {
        let Some(listener) = self.listener.take() else {
            return Ok(());
        };
        listener.set_nonblocking(true)?;
        let address = self.address.take();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(1)
            .build()?;
        let guests = self.guests.clone();
        std::thread::Builder::new()
            .name("http".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let api = Arc::new(api);
                    tokio::spawn(pulse::beat(Arc::clone(&api)));
                    if let Some(address) = address {
                        tokio::spawn(show(address, Arc::clone(&api)));
                    }
                    match tokio::net::UnixListener::from_std(listener) {
                        Ok(listener) => admit(listener, guests, api).await,
                        Err(error) => tracing::error!(%error, "the API is not served"),
                    }
                });
            })?;
        Ok(())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What a start would refuse: a token that is none, or that others may read.
///
/// # Errors
/// What is wrong with it.
pub fn check(config: &HttpConfig) -> Result<(), Failure> {
    match config.listen {
        Some(_) => Token::load(&config.token).map(drop),
        None => Ok(()),
    }
}

/// Opens the address of the page, if there is one, with its token. Whoever on this host has the port already keeps the
/// page away, and nothing else: the loader and the documents do not wait for it.
fn address(config: &HttpConfig) -> Result<Option<Address>, Failure> {
    let Some(listen) = config.listen else {
        return Ok(None);
    };
    let token = Token::load_or_make(&config.token)?;
    let listener = match bind(listen) {
        Ok(listener) => Some(listener),
        Err(error) => {
            tracing::error!(
                %error,
                "[http] listen: {listen} can't be had, and the dashboard waits for it: end what listens there, or name another"
            );
            None
        }
    };
    Ok(Some(Address {
        listen,
        listener,
        gate: Arc::new(Gate::new(token, listen, &config.hosts)),
    }))
}

fn bind(listen: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves the page, as soon as its address can be had.
async fn show(address: Address, api: Arc<Api>) {
    let mut bound = address.listener;
    let listener = loop {
        match bound.take() {
            Some(listener) => break listener,
            None => tokio::time::sleep(BIND_AGAIN).await,
        }
        bound = bind(address.listen).ok();
    };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => admit_shown(listener, address.gate, api).await,
        Err(error) => tracing::error!(%error, "the dashboard is not served"),
    }
}

/// Removes the socket that a killed process left.
fn make_room(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other(
            "there is a file that is no socket: remove it",
        ));
    }
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::other(
            "another process listens there: end it, or name another socket",
        ));
    }
    fs::remove_file(path)
}

async fn admit(listener: tokio::net::UnixListener, guests: Guests, api: Arc<Api>) {
    let refusals = Arc::new(Semaphore::new(REFUSED_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: connections that end give some back.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        match guests.enter(stream.peer_cred().ok()) {
            Ok(seat) => {
                let api = Arc::clone(&api);
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        let api = Arc::clone(&api);
                        async move { Ok(api.answer(request).await) }
                    });
                    converse(stream, WHOLE, service).await;
                    drop::<Seat>(seat);
                });
            }
            Err(reply) => {
                let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() else {
                    continue;
                };
                tokio::spawn(async move {
                    let service = service_fn(|_| {
                        let reply = reply.clone();
                        async move { Ok(reply.into_response()) }
                    });
                    converse(stream, REFUSAL, service).await;
                    drop(permit);
                });
            }
        }
    }
}

/// Answers who passes the gate, request by request.
async fn admit_shown(listener: tokio::net::TcpListener, gate: Arc<Gate>, api: Arc<Api>) {
    let seats = Arc::new(Semaphore::new(TCP_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(seat) = Arc::clone(&seats).try_acquire_owned() else {
            continue;
        };
        let (gate, api) = (Arc::clone(&gate), Arc::clone(&api));
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let (gate, api) = (Arc::clone(&gate), Arc::clone(&api));
                async move {
                    let (path, headers) = (request.uri().path(), request.headers());
                    Ok(match gate.admit(path, headers, Instant::now()) {
                        Ok(()) => api.answer(request).await,
                        Err(reply) => reply.into_response(),
                    })
                }
            });
            converse(stream, WHOLE, service).await;
            drop(seat);
        });
    }
}

/// Who may come in, and who is in: connections by user.
#[derive(Clone, Debug)]
struct Guests {
    own: u32,
    group: u32,
    inside: Arc<Mutex<HashMap<u32, usize>>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
struct Seat {
    guests: Guests,
    uid: u32,
}

impl Guests {
    fn enter(&self, peer: Option<UCred>) -> Result<Seat, Reply> {
        let groups = |peer: &UCred| peer.pid().map(groups_of).unwrap_or_default();
        match peer {
            Some(peer) if self.may(peer.uid(), peer.gid(), || groups(&peer)) => {
                self.seat(peer.uid())
            }
            _ => {
                let who = "root, mixctld's own user, or a member of the group that [http] names";
                let detail = format!("this user may not ask: be {who}");
                Err(Reply::problem(StatusCode::FORBIDDEN, &detail))
            }
        }
    }

    /// The file system lets in nobody else, as long as the socket's mode stays what it was made with.
    fn may(&self, uid: u32, gid: u32, groups: impl FnOnce() -> Vec<u32>) -> bool {
        uid == 0 || uid == self.own || gid == self.group || groups().contains(&self.group)
    }

    fn seat(&self, uid: u32) -> Result<Seat, Reply> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let others = inside.iter().filter(|(uid, _)| **uid != 0);
        let others: usize = others.map(|(_, count)| count).sum();
        let own = inside.get(&uid).copied().unwrap_or(0);
        if own >= USER_MAX || (uid != 0 && others >= USERS_MAX) {
            let detail = "too many connections at a time: end some, or ask again in some seconds";
            return Err(Reply::problem(StatusCode::SERVICE_UNAVAILABLE, detail));
        }
        inside.insert(uid, own + 1);
        let guests = self.clone();
        Ok(Seat { guests, uid })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let inside = self.guests.inside.lock();
        let mut inside = inside.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.uid);
            }
        }
    }
}

/// The further groups of a process; none where they can't be read.
fn groups_of(pid: i32) -> Vec<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Groups:"));
    let numbers = line.unwrap_or_default().split_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guests() -> Guests {
        Guests {
            own: 990,
            group: 991,
            inside: Arc::default(),
        }
    }

    #[test]
    fn root_the_own_user_and_the_group_may_and_nobody_else() {
        let guests = guests();
        let none = Vec::new;
        assert!(guests.may(0, 0, none));
        assert!(guests.may(990, 5, none));
        assert!(guests.may(1_000, 991, none));
        assert!(guests.may(1_000, 1_000, || vec![4, 991]));
        assert!(!guests.may(1_000, 1_000, || vec![4, 990]));
        assert!(
            !guests.may(991, 990, none),
            "numbers of users are none of groups"
        );
        assert_eq!(
            guests.enter(None).unwrap_err().status,
            StatusCode::FORBIDDEN
        );
    }

    #[test]
    fn one_user_fills_its_own_seats_all_users_theirs_and_root_finds_one() {
        let guests = guests();
        let enter = |uid: u32| guests.seat(uid).ok();
        let greedy: Vec<Seat> = (0..20).filter_map(|_| enter(1_000)).collect();
        assert_eq!(greedy.len(), USER_MAX);
        let others: Vec<Seat> = (1_001..1_020)
            .flat_map(|uid| [uid; 4])
            .filter_map(enter)
            .collect();
        assert_eq!(others.len(), USERS_MAX - USER_MAX);
        let root: Vec<Seat> = (0..20).filter_map(|_| enter(0)).collect();
        assert_eq!(root.len(), USER_MAX);
        let refused = guests.seat(1_030).unwrap_err();
        assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
        drop((greedy, others, root));
        assert!(guests.seat(1_030).is_ok());
        assert_eq!(guests.inside.lock().unwrap().len(), 0);
    }

    #[test]
    fn groups_of_a_process_are_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        // Whatever they are, reading them fails for nobody's process alone.
        let _ = groups_of(own);
        assert!(groups_of(i32::MAX).is_empty());
    }
}

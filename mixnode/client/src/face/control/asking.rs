//! The end of the socket that other commands have.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::channel::Channel;
use super::protocol::{Order, Reply, Request, Status};
use crate::face::run::{RunError, SendEvent, SendSummary};
use crate::face::wait::readable;
use crate::store::SentFile;
use crate::store::home::Home;

/// A request to stop is looked for so often.
const LOOK: Duration = Duration::from_millis(100);
/// The running `fog` answers at once; not being answered for so long is told.
const ANSWER: Duration = Duration::from_secs(10);

/// Whether a `fog` runs on this home and takes files from others.
pub(in crate::face) fn is_running(home: &Path) -> bool {
    match Channel::connect(home) {
        Ok(_) => true,
        // Many ask at once.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// How the `fog` that runs on `home` stands.
///
/// # Errors
/// None runs; it does not answer.
pub fn status(home: &Path) -> Result<Status, RunError> {
    let channel = connect(home)?;
    match ask(&channel, &Request::Status)? {
        Some(Reply::Status { status }) => Ok(*status),
        other => Err(unexpected(other)),
    }
}

/// Ends the `fog` that runs on `home`, and returns when it has ended.
///
/// # Errors
/// None runs; it does not answer.
pub fn stop(home: &Path) -> Result<(), RunError> {
    let channel = connect(home)?;
    match ask(&channel, &Request::Stop)? {
        Some(Reply::Stopping) => {}
        other => return Err(unexpected(other)),
    }
    match answer(&channel)? {
        None => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Hands a file over and waits for what becomes of it, no longer than until the time after the moment of `until` is
/// over; none if whoever took it has ended.
pub(in crate::face) fn send(
    home: &Path,
    (order, source): (&Order, &SentFile),
    (began, timeout): (Instant, Option<Duration>),
    tell: &mut dyn FnMut(&SendEvent),
    stop: &AtomicBool,
) -> Result<Option<SendSummary>, RunError> {
    let Ok(channel) = connect(home) else {
        return Ok(None);
    };
    let request = Request::Send(Box::new(order.clone()));
    let sent = channel.send(&request, Some(source.file().as_fd()));
    if sent.is_err() {
        // It may have said why before it ended.
        return match next(&channel, LOOK)? {
            Next::Reply(why) => Err(unexpected(Some(why))),
            Next::End | Next::Nothing => Ok(None),
        };
    }
    let mut told = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(match withdraw(&channel, true) {
                true => RunError::GoesOn,
                false => RunError::Stopped,
            });
        }
        if let Some(after) = timeout.filter(|after| began.elapsed() >= *after) {
            withdraw(&channel, false);
            return Err(RunError::TimedOut { after, wait: told });
        }
        match next(&channel, LOOK)? {
            Next::Nothing => {}
            Next::End => return Ok(None),
            Next::Reply(Reply::Waiting { wait }) => {
                told.clone_from(&wait);
                tell(&SendEvent::Waiting(wait));
            }
            Next::Reply(Reply::Progress { progress }) => tell(&SendEvent::Progress(progress)),
            Next::Reply(Reply::Sent { summary }) => return Ok(Some(summary)),
            Next::Reply(Reply::Failed { failure }) => return Err(RunError::Transfer(failure)),
            Next::Reply(other) => return Err(unexpected(Some(other))),
        }
    }
}

/// Takes the file of this connection back; whether it goes on all the same.
fn withdraw(channel: &Channel, only_waiting: bool) -> bool {
    let until = Instant::now() + LOOK * 20;
    if channel
        .send(&Request::Withdraw { only_waiting }, None)
        .is_err()
    {
        return false;
    }
    while Instant::now() < until {
        match next(channel, LOOK) {
            Ok(Next::Reply(Reply::Withdrawn { goes_on })) => return goes_on,
            // What was said before.
            Ok(Next::Reply(_) | Next::Nothing) => {}
            Ok(Next::End) | Err(_) => return false,
        }
    }
    false
}

enum Next {
    Reply(Reply),
    End,
    Nothing,
}

fn next(channel: &Channel, patience: Duration) -> Result<Next, RunError> {
    readable(&[channel.as_fd()], patience);
    let reset = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionReset;
    // That it did not read everything is told first, and then what it said before.
    let received = match channel.receive() {
        Err(error) if reset(&error) => channel.receive(),
        received => received,
    };
    match received {
        Ok(Some((reply, _))) => Ok(Next::Reply(reply)),
        Ok(None) => Ok(Next::End),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Next::Nothing),
        Err(error) if reset(&error) => Ok(Next::End),
        Err(error) => Err(broken(error)),
    }
}

/// What is answered to a question.
fn ask(channel: &Channel, request: &Request) -> Result<Option<Reply>, RunError> {
    // Where it could not be sent, it may have been said why.
    let sent = channel.send(request, None);
    let answered = answer(channel)?;
    match (sent, &answered) {
        (Err(error), None) => Err(broken(error)),
        _ => Ok(answered),
    }
}

/// The next answer, none once the other side has ended.
fn answer(channel: &Channel) -> Result<Option<Reply>, RunError> {
    let until = Instant::now() + ANSWER;
    while Instant::now() < until {
        match next(channel, LOOK)? {
            Next::Reply(reply) => return Ok(Some(reply)),
            Next::End => return Ok(None),
            Next::Nothing => {}
        }
    }
    Err(RunError::Busy {
        why: format!(
            "the fog that runs here has not answered for {} s",
            ANSWER.as_secs()
        ),
    })
}

fn connect(home: &Path) -> Result<Channel, RunError> {
    Channel::connect(home).map_err(|error| match (error.kind(), Home::find(home)) {
        // Of a home that is none, or somebody else's, it is not known.
        (_, Err(why)) => why.into(),
        (io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused, Ok(())) => {
            RunError::NotRunning {
                home: home.to_owned(),
            }
        }
        (_, Ok(())) => broken(error),
    })
}

fn broken(error: io::Error) -> RunError {
    RunError::Busy {
        why: format!("the fog that runs here can't be asked: {error}"),
    }
}

fn unexpected(reply: Option<Reply>) -> RunError {
    let why = match reply {
        Some(Reply::Refused { why }) => why,
        Some(_) => "the fog that runs here says what is no answer to this".to_owned(),
        None => "the fog that runs here has ended".to_owned(),
    };
    RunError::Busy { why }
}

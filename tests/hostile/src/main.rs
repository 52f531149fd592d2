// SPDX-License-Identifier: GPL-2.0

//! `iser-hostile ADDRESS:PORT`: serve, follow orders from standard input, say what happens.

use iser_hostile::{
    cm::{Event, Incoming, Listener},
    control::{say, Shared},
    rules::{Action, Point, When},
    session::Session,
};
use std::{net::SocketAddrV4, process::exit, sync::Arc, thread};

fn accept(incoming: Incoming, shared: &Arc<Shared>) -> Result<(), String> {
    let actions = shared.at(Point::Connect);
    let (invalidate, mut private) = shared.lock().mode();
    for action in &actions {
        match action {
            Action::Refuse(length) => {
                incoming.reject(&vec![0xee; *length]);
                return Ok(());
            }
            Action::Ignore => {
                incoming.ignore();
                return Ok(());
            }
            Action::Private(data) => private.clone_from(data),
            _ => {}
        }
    }
    let link = incoming.accept(&private)?;
    let number = link.number();
    let hangup = link.hangup();
    if actions.contains(&Action::Hangup(When::Before)) {
        hangup.now();
    }
    let orders = shared.add(number, hangup);
    say(format_args!("up {number:x}"));
    let shared = shared.clone();
    thread::spawn(move || Session::new(link, shared, invalidate, orders).run());
    Ok(())
}

fn serve(address: SocketAddrV4) -> Result<(), String> {
    let listener = Listener::new(address)?;
    let shared = Arc::new(Shared::new(address.to_string()));
    let commander = shared.clone();
    thread::spawn(move || {
        commander.obey();
        // The test is over.
        exit(0);
    });
    say(format_args!("listening {address}"));
    loop {
        match listener.next()? {
            Event::Request(incoming) => {
                if let Err(why) = accept(incoming, &shared) {
                    say(format_args!("cannot accept: {why}"));
                }
            }
            Event::Gone(number) => shared.gone(number),
            Event::Established(_) | Event::Other => {}
        }
    }
}

fn main() {
    let address = std::env::args().nth(1).and_then(|a| a.parse().ok());
    let Some(address) = address else {
        eprintln!("usage: iser-hostile ADDRESS:PORT");
        exit(2);
    };
    if let Err(why) = serve(address) {
        eprintln!("iser-hostile: {why}");
        exit(1);
    }
}

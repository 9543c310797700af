//! A chat room whose members come back by themselves.
//!
//! ```text
//! cargo run --example websocket --features axum-ws -- 127.0.0.1:8080
//! cargo run --example websocket --features axum-ws -- join 127.0.0.1:8080 ada
//! kill -HUP <pid>
//! ```
//!
//! The first argument is the address (`127.0.0.1:8080` if there is none); a browser finds a page there. With `join`
//! this is a member, which says what it reads from standard input, and prints what it hears.
//!
//! At a handover the server closes every WebSocket with 1012 (service restart), spread over a second. A member connects
//! again at once, and reaches the successor. It takes what it says for heard when it hears it itself; what it has not
//! heard by the end of a connection it says again. So nothing is lost, though for that second there are two rooms: a
//! room that is one across processes needs a broker behind it.
//!
//! The address that the server got is printed to standard output as `listening on <address>`; the log goes to standard
//! error.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::Message;
use axum::response::{Html, Response};
use axum::routing::{any, get};
use futures::{SinkExt, StreamExt};
use handover::axum::ws::{WebSocket, WebSocketUpgrade};
use handover::{BoxError, Builder, Context};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin, stdin};
use tokio::net::TcpStream;
use tokio::sync::broadcast;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite;
use tracing_subscriber::EnvFilter;

fn main() -> std::process::ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    if let [join, address, name] = arguments.as_slice() {
        if join == "join" {
            return be_member(address, name);
        }
    }
    let address = arguments.into_iter().next();
    Builder::new().run(|cx| serve(cx, address.unwrap_or_else(|| "127.0.0.1:8080".to_owned())))
}

async fn serve(cx: Context, address: String) -> Result<(), BoxError> {
    let listener = cx.bind(address.as_str()).await?;
    println!("listening on {}", listener.local_addr()?);
    let room = Room {
        said: broadcast::Sender::new(256),
        generation: cx.generation(),
    };
    let app = Router::new()
        .route("/", get(async || Html(PAGE)))
        .route("/room", any(enter))
        .with_state(room);
    cx.ready().await?;
    handover::axum::serve(listener, app).await?;
    Ok(())
}

#[derive(Clone)]
struct Room {
    said: broadcast::Sender<String>,
    generation: u32,
}

async fn enter(State(room): State<Room>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .spread(Duration::from_secs(1))
        .on_upgrade(|socket| stay(room, socket))
}

/// Until the member leaves, or is told to: the goodbye is the library's.
async fn stay(room: Room, mut socket: WebSocket) {
    let mut hears = room.said.subscribe();
    let welcome = format!("* welcome to the room of generation {}", room.generation);
    if socket.send(Message::text(welcome)).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            message = socket.recv() => match message {
                // There is somebody who hears: this one.
                Some(Ok(Message::Text(text))) => drop(room.said.send(text.to_string())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return,
            },
            said = hears.recv() => match said {
                // After the goodbye nothing can be sent; what the member has still said is heard by the others.
                Ok(text) => drop(socket.send(Message::text(text)).await),
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn be_member(address: &str, name: &str) -> std::process::ExitCode {
    let mut lines = BufReader::new(stdin()).lines();
    let mut unheard = VecDeque::new();
    loop {
        match visit(address, name, &mut lines, &mut unheard).await {
            Ok(true) => return std::process::ExitCode::SUCCESS,
            Ok(false) => {}
            Err(error) => {
                eprintln!("* {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// One connection; tells whether there is nothing more to say.
async fn visit(
    address: &str,
    name: &str,
    lines: &mut Lines<BufReader<Stdin>>,
    unheard: &mut VecDeque<String>,
) -> Result<bool, BoxError> {
    let stream = TcpStream::connect(address).await?;
    let (mut socket, _) = client_async(format!("ws://{address}/room"), stream).await?;
    for text in &*unheard {
        socket.send(tungstenite::Message::text(text)).await?;
    }
    let mut over = false;
    while !(over && unheard.is_empty()) {
        tokio::select! {
            line = lines.next_line(), if !over => match line? {
                Some(line) => {
                    let text = format!("{name}: {line}");
                    unheard.push_back(text.clone());
                    socket.send(tungstenite::Message::text(text)).await?;
                }
                None => over = true,
            },
            message = socket.next() => match message.transpose()? {
                Some(tungstenite::Message::Text(text)) => {
                    if unheard.front().is_some_and(|first| *first == *text.as_str()) {
                        unheard.pop_front();
                    }
                    println!("{text}");
                }
                Some(tungstenite::Message::Close(frame)) => {
                    println!("* closed: {}", frame.map_or(0, |frame| frame.code.into()));
                }
                Some(_) => {}
                None => return Ok(false),
            },
        }
    }
    socket.close(None).await?;
    Ok(true)
}

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>room</title>
<pre id="heard"></pre>
<form id="form"><input id="text" autofocus autocomplete="off"></form>
<script>
  const heard = document.getElementById("heard"), text = document.getElementById("text");
  const name = "guest" + Math.floor(Math.random() * 1000);
  const unheard = [];
  let socket;
  function enter() {
    socket = new WebSocket(`ws://${location.host}/room`);
    socket.onopen = () => unheard.forEach(said => socket.send(said));
    socket.onmessage = ({ data }) => {
      if (unheard[0] === data) unheard.shift();
      heard.append(data + "\n");
    };
    // 1012: the service restarts, and is there. Otherwise it may not be.
    socket.onclose = ({ code }) => setTimeout(enter, code === 1012 ? 0 : 1000);
  }
  document.getElementById("form").onsubmit = event => {
    event.preventDefault();
    const said = `${name}: ${text.value}`;
    unheard.push(said);
    if (socket.readyState === WebSocket.OPEN) socket.send(said);
    text.value = "";
  };
  enter();
</script>
"#;

//! The clients of the bench `migration`: connections of HTTP/1.1 that are kept alive and say nothing by themselves.
//!
//! For each line on its standard input it asks once on every connection, and says `answered WORD` if all of them were
//! answered with the same word.

use std::{
    env,
    error::Error,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, count] = &arguments[..] else {
        return Err("usage: clients ADDRESS COUNT".into());
    };
    let mut connections = (0..count.parse()?)
        .map(|_| TcpStream::connect(address))
        .collect::<io::Result<Vec<_>>>()?;
    for line in io::stdin().lines() {
        line?;
        for connection in &mut connections {
            connection.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
        }
        let mut answers = connections.iter().map(answer).collect::<Result<Vec<_>>>()?;
        answers.dedup();
        let [word] = &answers[..] else {
            return Err(format!("the answers are not all the same: {answers:?}").into());
        };
        println!("answered {word}");
    }
    Ok(())
}

/// Reads the body of a response whose length is announced.
fn answer(connection: &TcpStream) -> Result<String> {
    let mut reader = BufReader::with_capacity(1024, connection);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err("a connection was closed".into());
        }
        if let Some(number) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = number.trim().parse()?;
        }
        if line.trim_end().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(String::from_utf8(body)?)
}

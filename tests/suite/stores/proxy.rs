//! A proxy before an object store, which does with requests what networks and stores do.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// What happens to requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mischief {
    None,
    /// The store is not asked, and the answer is 500.
    Fails,
    /// The next request that puts something is done, and the connection ends before the answer.
    LosesAnAnswer,
    /// The store never sees the condition that nothing be there yet.
    Overwrites,
}

/// It ends with the program that runs the tests.
pub struct Proxy {
    pub url: String,
    mischief: Arc<Mutex<Mischief>>,
}

impl Proxy {
    /// `store`: `http://host:port`.
    pub fn before(store: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let store = store.strip_prefix("http://").expect("an address in the clear").trim_end_matches('/').to_owned();
        let mischief = Arc::new(Mutex::new(Mischief::None));
        let shared = Arc::clone(&mischief);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let (store, mischief) = (store.clone(), Arc::clone(&shared));
                // Who asked goes away, or the store does: that is the test's matter.
                thread::spawn(move || _ = one(client, &store, &mischief));
            }
        });
        Self { url, mischief }
    }

    pub fn set(&self, mischief: Mischief) {
        *self.mischief.lock().unwrap_or_else(PoisonError::into_inner) = mischief;
    }

    pub fn get(&self) -> Mischief {
        *self.mischief.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes one request on; the connection ends with it.
fn one(mut client: TcpStream, store: &str, mischief: &Mutex<Mischief>) -> std::io::Result<()> {
    let mut read = Vec::new();
    let head = loop {
        let mut more = [0; 4096];
        let count = client.read(&mut more)?;
        if count == 0 {
            return Ok(());
        }
        read.extend(&more[..count]);
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
    };
    let mut body = read.split_off(head + 4);
    let text = String::from_utf8_lossy(&read[..head]).into_owned();
    let named = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
    let length = text.lines().find(|line| named(line, "content-length")).and_then(|line| line.split(':').nth(1)?.trim().parse().ok());
    let begun = body.len();
    body.resize(length.unwrap_or(0), 0);
    client.read_exact(&mut body[begun..])?;

    let now = {
        let mut mischief = mischief.lock().unwrap_or_else(PoisonError::into_inner);
        let now = *mischief;
        if now == Mischief::LosesAnAnswer && text.starts_with("PUT ") {
            *mischief = Mischief::None;
        }
        now
    };
    if now == Mischief::Fails {
        return client.write_all(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let dropped = |line: &&str| named(line, "connection") || now == Mischief::Overwrites && named(line, "if-none-match");
    let passed: Vec<&str> = text.lines().filter(|line| !dropped(line)).chain(["connection: close", "", ""]).collect();
    let mut asked = TcpStream::connect(store)?;
    asked.write_all(passed.join("\r\n").as_bytes())?;
    asked.write_all(&body)?;
    let mut answer = Vec::new();
    asked.read_to_end(&mut answer)?;
    if now == Mischief::LosesAnAnswer && text.starts_with("PUT ") {
        return Ok(());
    }
    client.write_all(&answer)
}

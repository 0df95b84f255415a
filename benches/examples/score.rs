//! Asks a process that serves for decisions about one event a request, at a given rate, and tells how long the answers took.
//!
//! Requests are due at fixed times, whatever became of those before; a time is counted from when its request was due, so that waiting counts. Every answer must be a decision.
//!
//! `score ADDRESS KEY EVENTS.ndjson RATE SECONDS CONNECTIONS`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let [address, key, events, rate, seconds, connections] = &given[..] else {
        eprintln!("score ADDRESS KEY EVENTS.ndjson RATE SECONDS CONNECTIONS");
        std::process::exit(2);
    };
    let number = |text: &String| text.parse::<usize>().expect("a number");
    let (rate, seconds, connections) = (number(rate), number(seconds), number(connections));
    let events = std::fs::read_to_string(events).expect("events");
    let events: Vec<&str> = events.lines().collect();
    let begin = Instant::now() + Duration::from_millis(200);
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|nth| {
                let due = (nth..rate * seconds).step_by(connections);
                let due = due.map(move |request| (begin + Duration::from_secs_f64(request as f64 / rate as f64), request));
                let events = &events;
                scope.spawn(move || ask(address, key, due.map(|(due, request)| (due, events[request % events.len()]))))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("answers")).collect()
    });
    times.sort_unstable();
    let took = begin.elapsed().as_secs_f64();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{} answers, {:.0} a second; ms: median {:.2}, 90 % {:.2}, 99 % {:.2}, 99.9 % {:.2}, longest {:.2}",
        times.len(),
        times.len() as f64 / took,
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0)
    );
}

/// Sends each event when it is due, over one connection; how long after that its answer was there.
fn ask<'e>(address: &str, key: &str, events: impl Iterator<Item = (Instant, &'e str)>) -> Vec<Duration> {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let mut answers = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut requests = stream;
    let mut times = Vec::new();
    let mut line = String::new();
    for (due, event) in events {
        if let Some(early) = due.checked_duration_since(Instant::now()) {
            std::thread::sleep(early);
        }
        let head = format!(
            "POST /v1/score HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{event}",
            event.len()
        );
        requests.write_all(head.as_bytes()).expect("a request");
        let mut length = 0;
        line.clear();
        answers.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        loop {
            line.clear();
            answers.read_line(&mut line).expect("a header");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
                length = value.trim().parse().expect("a length");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        answers.read_exact(&mut body).expect("a body");
        assert!(body.windows(13).any(|part| part == b"\"decision_id\""), "{}", String::from_utf8_lossy(&body));
        times.push(due.elapsed());
    }
    times
}

//! Tokens of a condition: kinds with byte spans, nothing copied. Every text has tokens; what is wrong with one is its kind.

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A keyword or a bare name; dots may stand between its parts (`event.id`).
    Word,
    /// A name in double quotes.
    Quoted,
    /// A string in single quotes.
    Text,
    Number,
    /// `:name`
    Parameter,
    LeftParen,
    RightParen,
    Comma,
    Dot,
    Semicolon,
    DoubleColon,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Plus,
    Minus,
    Star,
    Slash,
    Percent,
    /// `||`
    Concat,
    /// `|`, and what else only patterns know.
    Bar,
    Caret,
    Dollar,
    Question,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    /// `{-`
    ExcludeOpen,
    /// `-}`
    ExcludeClose,
    /// `~`
    Match,
    /// `~*`
    MatchInsensitive,
    /// `!~`
    NoMatch,
    /// `!~*`
    NoMatchInsensitive,
    /// The end of the text.
    End,
    UnknownCharacter,
    UnterminatedText,
    UnterminatedName,
    UnterminatedComment,
    InvalidNumber,
}

/// The bytes `start..end` of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: Kind,
    pub start: usize,
    pub end: usize,
}

/// Reads tokens one by one; after the end, [`Kind::End`] for ever.
#[derive(Clone, Debug)]
pub struct Lexer<'t> {
    text: &'t str,
    position: usize,
}

/// For each ASCII byte, whether a name may go on with it.
const WORD: [bool; 256] = {
    let mut word = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        word[byte] = (byte as u8).is_ascii_alphanumeric() || byte as u8 == b'_';
        byte += 1;
    }
    word
};

/// Whether a name may begin with `c`.
fn starts_word(c: char) -> bool {
    c == '_' || if c.is_ascii() { c.is_ascii_alphabetic() } else { c.is_alphabetic() }
}

/// Whether a name may go on with `c`.
fn continues_word(c: char) -> bool {
    c == '_' || if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() }
}

/// Whether all of `name` is one [`Kind::Word`].
#[must_use]
pub fn is_word(name: &str) -> bool {
    let token = Lexer::new(name).next_token();
    token.kind == Kind::Word && token.start == 0 && token.end == name.len()
}

impl<'t> Lexer<'t> {
    #[must_use]
    pub const fn new(text: &'t str) -> Self {
        Self { text, position: 0 }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.as_bytes().get(at).copied().unwrap_or(0)
    }

    fn character(&self, at: usize) -> Option<char> {
        self.text.get(at..).and_then(|rest| rest.chars().next())
    }

    /// The next token; white space and comments before it are passed over.
    pub fn next_token(&mut self) -> Token {
        if let Some(unterminated) = self.skip_blank() {
            return unterminated;
        }
        let start = self.position;
        let next = self.byte(start + 1);
        let (kind, len) = match self.byte(start) {
            _ if start >= self.text.len() => (Kind::End, 0),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => return self.word(start),
            b'0'..=b'9' => return self.number(start),
            b'\'' => return self.quoted(start, b'\'', Kind::Text, Kind::UnterminatedText),
            quote @ (b'"' | b'`') => return self.quoted(start, quote, Kind::Quoted, Kind::UnterminatedName),
            b'.' if next.is_ascii_digit() => return self.number(start),
            b'(' => (Kind::LeftParen, 1),
            b')' => (Kind::RightParen, 1),
            b',' => (Kind::Comma, 1),
            b'.' => (Kind::Dot, 1),
            b';' => (Kind::Semicolon, 1),
            b'+' => (Kind::Plus, 1),
            b'-' if next == b'}' => (Kind::ExcludeClose, 2),
            b'-' => (Kind::Minus, 1),
            b'{' if next == b'-' => (Kind::ExcludeOpen, 2),
            b'{' => (Kind::LeftBrace, 1),
            b'}' => (Kind::RightBrace, 1),
            b'[' => (Kind::LeftBracket, 1),
            b']' => (Kind::RightBracket, 1),
            b'^' => (Kind::Caret, 1),
            b'$' => (Kind::Dollar, 1),
            b'?' => (Kind::Question, 1),
            b'*' => (Kind::Star, 1),
            b'/' => (Kind::Slash, 1),
            b'%' => (Kind::Percent, 1),
            b'=' => (Kind::Equal, if next == b'=' { 2 } else { 1 }),
            b'<' => match next {
                b'=' => (Kind::LessOrEqual, 2),
                b'>' => (Kind::NotEqual, 2),
                _ => (Kind::Less, 1),
            },
            b'>' if next == b'=' => (Kind::GreaterOrEqual, 2),
            b'>' => (Kind::Greater, 1),
            b'!' if next == b'=' => (Kind::NotEqual, 2),
            b'!' if next == b'~' && self.byte(start + 2) == b'*' => (Kind::NoMatchInsensitive, 3),
            b'!' if next == b'~' => (Kind::NoMatch, 2),
            b'~' if next == b'*' => (Kind::MatchInsensitive, 2),
            b'~' => (Kind::Match, 1),
            b'|' if next == b'|' => (Kind::Concat, 2),
            b'|' => (Kind::Bar, 1),
            b':' if next == b':' => (Kind::DoubleColon, 2),
            b':' if self.character(start + 1).is_some_and(starts_word) => {
                self.position = start + 1;
                self.part();
                return Token { kind: Kind::Parameter, start, end: self.position };
            }
            _ => match self.character(start) {
                Some(c) if starts_word(c) => return self.word(start),
                Some(c) => (Kind::UnknownCharacter, c.len_utf8()),
                None => (Kind::End, 0),
            },
        };
        self.position = start + len;
        Token { kind, start, end: self.position }
    }

    /// Skips white space and comments; block comments nest. Returns a token only for a comment without an end.
    fn skip_blank(&mut self) -> Option<Token> {
        loop {
            let at = self.position;
            match self.byte(at) {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0c => self.position += 1,
                b'-' if self.byte(at + 1) == b'-' => {
                    let rest = &self.text.as_bytes()[at..];
                    self.position = memchr::memchr(b'\n', rest).map_or(self.text.len(), |end| at + end + 1);
                }
                b'/' if self.byte(at + 1) == b'*' => {
                    let mut depth = 1_usize;
                    let mut inside = at + 2;
                    while depth > 0 {
                        if inside >= self.text.len() {
                            self.position = self.text.len();
                            return Some(Token { kind: Kind::UnterminatedComment, start: at, end: at + 2 });
                        }
                        match (self.byte(inside), self.byte(inside + 1)) {
                            (b'*', b'/') => (depth, inside) = (depth - 1, inside + 2),
                            (b'/', b'*') => (depth, inside) = (depth + 1, inside + 2),
                            _ => inside += 1,
                        }
                    }
                    self.position = inside;
                }
                byte if byte >= 0x80 => match self.character(at) {
                    Some(c) if c.is_whitespace() || c == '\u{feff}' => self.position += c.len_utf8(),
                    _ => return None,
                },
                _ => return None,
            }
        }
    }

    /// Moves over the characters of one part of a name.
    fn part(&mut self) {
        loop {
            let rest = self.text.as_bytes().get(self.position..).unwrap_or_default();
            self.position += rest.iter().take_while(|byte| WORD[usize::from(**byte)]).count();
            match self.byte(self.position) {
                0..=0x7f => return,
                _ => match self.character(self.position) {
                    Some(c) if continues_word(c) => self.position += c.len_utf8(),
                    _ => return,
                },
            }
        }
    }

    fn word(&mut self, start: usize) -> Token {
        self.position = start;
        self.part();
        while self.byte(self.position) == b'.' && self.character(self.position + 1).is_some_and(continues_word) {
            self.position += 1;
            self.part();
        }
        Token { kind: Kind::Word, start, end: self.position }
    }

    fn digits(&mut self) -> bool {
        let start = self.position;
        while self.byte(self.position).is_ascii_digit() {
            self.position += 1;
        }
        self.position > start
    }

    fn number(&mut self, start: usize) -> Token {
        self.position = start;
        let mut valid = self.digits();
        if self.byte(self.position) == b'.' {
            self.position += 1;
            valid |= self.digits();
        }
        if matches!(self.byte(self.position), b'e' | b'E') {
            self.position += 1;
            if matches!(self.byte(self.position), b'+' | b'-') {
                self.position += 1;
            }
            valid &= self.digits();
        }
        if self.character(self.position).is_some_and(continues_word) {
            valid = false;
            self.part();
        }
        Token { kind: if valid { Kind::Number } else { Kind::InvalidNumber }, start, end: self.position }
    }

    /// Quoted text, in which a doubled quote stands for one.
    fn quoted(&mut self, start: usize, quote: u8, kind: Kind, unterminated: Kind) -> Token {
        let bytes = self.text.as_bytes();
        let mut at = start + 1;
        loop {
            match memchr::memchr(quote, &bytes[at..]) {
                None => {
                    self.position = self.text.len();
                    // The carets point at the quote that was never closed.
                    return Token { kind: unterminated, start, end: start + 1 };
                }
                Some(offset) if self.byte(at + offset + 1) == quote => at += offset + 2,
                Some(offset) => {
                    self.position = at + offset + 1;
                    return Token { kind, start, end: self.position };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut lexer = Lexer::new(text);
        let mut kinds = Vec::new();
        loop {
            let token = lexer.next_token();
            assert!(text.get(token.start..token.end).is_some(), "spans lie on characters");
            if token.kind == Kind::End {
                return kinds;
            }
            kinds.push(token.kind);
        }
    }

    #[test]
    fn operators_are_read_longest_first() {
        use Kind::*;
        assert_eq!(kinds("= == <> != < <= > >="), [Equal, Equal, NotEqual, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual]);
        assert_eq!(kinds("~ ~* !~ !~* || :: :a"), [Match, MatchInsensitive, NoMatch, NoMatchInsensitive, Concat, DoubleColon, Parameter]);
        assert_eq!(kinds("a-b--c\n*d"), [Word, Minus, Word, Star, Word]);
    }

    #[test]
    fn names_hold_dots_and_letters_of_any_script() {
        assert_eq!(kinds("event.id größe _a1 a.0.b"), [Kind::Word; 4]);
        assert_eq!(kinds("a. b"), [Kind::Word, Kind::Dot, Kind::Word]);
        assert!(is_word("event.id") && !is_word("a b") && !is_word("") && !is_word("1a") && !is_word("a."));
    }

    #[test]
    fn numbers_have_points_and_exponents() {
        assert_eq!(kinds("1 1. .5 1.5 1e5 1.5E-3 1.e+2"), [Kind::Number; 7]);
        assert_eq!(kinds("1a 1e 0x1f 1e+"), [Kind::InvalidNumber; 4]);
    }

    #[test]
    fn quotes_and_comments_may_lack_an_end() {
        assert_eq!(kinds("'it''s' \"a\"\"b\""), [Kind::Text, Kind::Quoted]);
        assert_eq!(kinds("`a``b` > `c\"d`"), [Kind::Quoted, Kind::Greater, Kind::Quoted]);
        assert_eq!(kinds("a /* b /* c */ d */ e -- f"), [Kind::Word, Kind::Word]);
        assert_eq!(kinds("'abc"), [Kind::UnterminatedText]);
        assert_eq!(kinds("\"abc"), [Kind::UnterminatedName]);
        assert_eq!(kinds("a /* /* */"), [Kind::Word, Kind::UnterminatedComment]);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! When to break which rule: a small language.
//!
//! ```text
//! read#2 len=75; login* hangup
//! ```
//!
//! A rule is a point in the life of a connection and what to do there, rules are separated
//! by `;`. `#2` is the second time since the rules were set, `*` every time, and without
//! either it is the first. What is done there is correct except for what is named.

/// Where a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A connection request of the RDMA CM.
    Connect,
    Login,
    Text,
    Logout,
    Nop,
    TaskManagement,
    Read,
    Write,
    /// A SCSI command that is neither a read nor a write.
    Command,
}

const POINTS: [(&str, Point); 9] = [
    ("connect", Point::Connect),
    ("login", Point::Login),
    ("text", Point::Text),
    ("logout", Point::Logout),
    ("nop", Point::Nop),
    ("tmf", Point::TaskManagement),
    ("read", Point::Read),
    ("write", Point::Write),
    ("command", Point::Command),
];

/// When to hang up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Before anything is done.
    Before,
    /// When half of the data have been moved.
    Data,
    /// When all data have been moved, before the response.
    Response,
    /// After the response.
    After,
    /// After the Login Response that ends the login.
    Last,
}

/// Which task tag an answer carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    Reserved,
    Random,
    /// Of a command that is done.
    Freed,
    /// Of a command that waits for its answer.
    Other,
    /// A task that has not been used.
    Unused,
    /// A number above all tasks.
    Beyond,
    /// Of this task in an earlier session.
    Age,
}

/// Which key an answer invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    None,
    Own,
    /// Of a command that waits for its answer.
    Other,
    Random,
    /// Of a command that is done.
    Stale,
}

/// Where data go that should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// Right before the region.
    Before,
    /// Right behind it.
    Behind,
    /// Over its end.
    Across,
    /// Far away.
    Far,
    /// Into it, by a key that does not exist.
    Key,
    /// Into it, in the direction that is not allowed.
    Direction,
}

/// PDUs that nobody has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsolicited {
    Nop,
    /// A NOP-In that wants an answer.
    Ping,
    Async,
    Reject,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reject the connection, with that many bytes of private data.
    Refuse(usize),
    /// Do not answer, now or ever; nor is anything done.
    Ignore,
    /// Private data of the CM.
    Private(Vec<u8>),
    Hangup(When),
    /// Do everything but answer.
    Hold,
    /// Of a task management function: so many milliseconds later answer what is held.
    LateAnswer(u64),
    NoData,
    /// Answer before the data.
    Early,
    /// Answer between two halves of the data.
    Between,
    /// Wait so many milliseconds, then write to the buffer again.
    Late(u64),
    Outside(Outside),
    Twice,
    /// Of a ping: in the place of the answer, a Reject for too many immediate requests.
    Rejected,
    /// Once more when another command comes with this tag, so many milliseconds before its data.
    Again(u64),
    Length(usize),
    Iser(usize, Vec<u8>),
    Bhs(usize, Vec<u8>),
    SegmentLength(u32),
    Data(Vec<u8>),
    /// CHECK CONDITION with this SenseLength in a segment of so many bytes.
    Sense(u16, usize),
    Itt(Tag),
    Invalidate(Key),
    /// Added to StatSN, from here on.
    StatSn(i32),
    /// MaxCmdSN stays as it is, from here on: the window closes.
    Freeze,
    /// MaxCmdSN is ExpCmdSN - 1 + this, from here on.
    Window(i32),
    /// Added to ExpCmdSN, in this PDU.
    ExpCmdSn(i32),
    /// Before the answer: how many of what, with this event or reason.
    Flood(Unsolicited, u8, u32),
    /// Status class and detail of a login response.
    Status(u16),
    /// A text key of the answer, in the place of what would be said of it.
    Text(String),
    /// Never let a login end.
    Endless,
    /// Answer with so many bytes of text in parts.
    Long(usize),
    /// In the place of an answer, so many PDUs made from a seed.
    Random(u64, u32),
}

fn number<T: TryFrom<i64>>(text: &str) -> Result<T, String> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (digits, radix) = digits
        .strip_prefix("0x")
        .map_or((digits, 10), |rest| (rest, 16));
    i64::from_str_radix(digits, radix)
        .ok()
        .map(|value| sign * value)
        .and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| format!("{text} is not a number that fits"))
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let bad = || format!("{text} is not hexadecimal");
    if text.is_empty() || text.len() % 2 != 0 || !text.is_ascii() {
        return Err(bad());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| bad()))
        .collect()
}

/// `LENGTH` or `LENGTH:HEX`: that many bytes, the pattern over and over.
fn filled(text: &str) -> Result<Vec<u8>, String> {
    let (length, pattern) = text.split_once(':').unwrap_or((text, "00"));
    let pattern = hex(pattern)?;
    Ok(pattern.into_iter().cycle().take(number(length)?).collect())
}

fn choice<T: Copy>(text: &str, table: &[(&str, T)]) -> Result<T, String> {
    table
        .iter()
        .find(|(name, _)| *name == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("{text} is none of what is known here"))
}

fn flood(value: &str) -> Result<Action, String> {
    let mut parts = value.split(':');
    let what = choice(
        parts.next().unwrap_or(""),
        &[
            ("nop", Unsolicited::Nop),
            ("ping", Unsolicited::Ping),
            ("async", Unsolicited::Async),
            ("reject", Unsolicited::Reject),
        ],
    )?;
    let code = number(parts.next().unwrap_or(""))?;
    Ok(Action::Flood(
        what,
        code,
        number(parts.next().unwrap_or(""))?,
    ))
}

impl Action {
    fn parse(word: &str) -> Result<Self, String> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        if let Some(at) = name.strip_prefix("bhs.") {
            return Ok(Self::Bhs(number(at)?, hex(value)?));
        }
        if let Some(at) = name.strip_prefix("iser.") {
            return Ok(Self::Iser(number(at)?, hex(value)?));
        }
        Ok(match name {
            "refuse" => Self::Refuse(number(value)?),
            "ignore" => Self::Ignore,
            "private" => Self::Private(filled(value)?),
            "hangup" => Self::Hangup(choice(
                value,
                &[
                    ("", When::Before),
                    ("data", When::Data),
                    ("response", When::Response),
                    ("after", When::After),
                    ("last", When::Last),
                ],
            )?),
            "hold" => Self::Hold,
            "late-answer" => Self::LateAnswer(number(value)?),
            "nodata" => Self::NoData,
            "early" => Self::Early,
            "between" => Self::Between,
            "late" => Self::Late(number(value)?),
            "outside" => Self::Outside(choice(
                value,
                &[
                    ("before", Outside::Before),
                    ("behind", Outside::Behind),
                    ("across", Outside::Across),
                    ("far", Outside::Far),
                    ("key", Outside::Key),
                    ("direction", Outside::Direction),
                ],
            )?),
            "twice" => Self::Twice,
            "rejected" => Self::Rejected,
            "again" => Self::Again(number(value)?),
            "len" => Self::Length(number(value)?),
            "iser" => Self::Iser(0, hex(value)?),
            "dsl" => Self::SegmentLength(number(value)?),
            "data" => Self::Data(filled(value)?),
            "sense" => {
                let (sense, segment) = value.split_once(':').ok_or("sense=LENGTH:SEGMENT")?;
                Self::Sense(number(sense)?, number(segment)?)
            }
            "itt" => Self::Itt(choice(
                value,
                &[
                    ("reserved", Tag::Reserved),
                    ("random", Tag::Random),
                    ("freed", Tag::Freed),
                    ("other", Tag::Other),
                    ("unused", Tag::Unused),
                    ("beyond", Tag::Beyond),
                    ("age", Tag::Age),
                ],
            )?),
            "inv" => Self::Invalidate(choice(
                value,
                &[
                    ("none", Key::None),
                    ("own", Key::Own),
                    ("other", Key::Other),
                    ("random", Key::Random),
                    ("stale", Key::Stale),
                ],
            )?),
            "stat" => Self::StatSn(number(value)?),
            "freeze" => Self::Freeze,
            "window" => Self::Window(number(value)?),
            "exp" => Self::ExpCmdSn(number(value)?),
            "flood" => flood(value)?,
            "status" => Self::Status(number(value)?),
            "text" => Self::Text(value.to_owned()),
            "endless" => Self::Endless,
            "long" => Self::Long(number(value)?),
            "random" => {
                let (seed, count) = value.split_once(':').ok_or("random=SEED:COUNT")?;
                Self::Random(number(seed)?, number(count)?)
            }
            _ => return Err(format!("{word}: no such action")),
        })
    }
}

/// How often a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Each,
    Only(u32),
}

#[derive(Clone, Debug)]
struct Rule {
    point: Point,
    times: Times,
    seen: u32,
    actions: Vec<Action>,
}

/// All rules that hold now.
#[derive(Clone, Debug, Default)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// Reads rules; none is fine.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            let mut words = part.split_whitespace();
            let first = words.next().unwrap_or("");
            let (name, times) = if let Some(name) = first.strip_suffix('*') {
                (name, Times::Each)
            } else if let Some((name, nth)) = first.split_once('#') {
                (name, Times::Only(number(nth)?))
            } else {
                (first, Times::Only(1))
            };
            let point = choice(name, &POINTS).map_err(|_| format!("{name}: no such point"))?;
            let actions = words.map(Action::parse).collect::<Result<Vec<_>, _>>()?;
            if actions.is_empty() {
                return Err(format!("{part}: and do what?"));
            }
            rules.push(Rule {
                point,
                times,
                seen: 0,
                actions,
            });
        }
        Ok(Self(rules))
    }

    /// A point has been reached: what to do there.
    pub fn at(&mut self, point: Point) -> Vec<Action> {
        let mut actions = Vec::new();
        for rule in self.0.iter_mut().filter(|r| r.point == point) {
            rule.seen += 1;
            if rule.times == Times::Each || rule.times == Times::Only(rule.seen) {
                actions.extend_from_slice(&rule.actions);
            }
        }
        actions
    }
}

/// The name of a point, as in the rules.
pub fn name(point: Point) -> &'static str {
    POINTS
        .iter()
        .find(|(_, p)| *p == point)
        .map_or("?", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions() {
        let table = [
            ("len=75", Action::Length(75)),
            ("iser=20", Action::Iser(0, vec![0x20])),
            ("iser.3=ff01", Action::Iser(3, vec![0xff, 1])),
            ("bhs.16=00000001", Action::Bhs(16, vec![0, 0, 0, 1])),
            ("dsl=0xffffff", Action::SegmentLength(0xff_ffff)),
            ("data=3:ab", Action::Data(vec![0xab; 3])),
            ("data=3:0102", Action::Data(vec![1, 2, 1])),
            ("private=0", Action::Private(Vec::new())),
            ("hangup", Action::Hangup(When::Before)),
            ("hangup=after", Action::Hangup(When::After)),
            ("hangup=last", Action::Hangup(When::Last)),
            ("itt=freed", Action::Itt(Tag::Freed)),
            ("again=500", Action::Again(500)),
            ("stat=-3", Action::StatSn(-3)),
            ("window=-0x10", Action::Window(-16)),
            ("sense=300:10", Action::Sense(300, 10)),
            ("flood=nop:0:9", Action::Flood(Unsolicited::Nop, 0, 9)),
            ("text=A=b", Action::Text("A=b".into())),
            ("random=7:100", Action::Random(7, 100)),
        ];
        for (text, action) in table {
            assert_eq!(Action::parse(text), Ok(action), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let table = [
            "",
            "read",
            "sleep len=1",
            "read len",
            "read len=-1",
            "read len=x",
            "read bhs.0=1",
            "read bhs.x=11",
            "read itt=blue",
            "read#x len=1",
            "read data=5:",
            "read flood=nop",
            "read dsl=0x1ffffffff",
            "read sense=1",
            "read bhs.0=é1",
        ];
        for text in table.iter().skip(1) {
            assert!(Rules::parse(text).is_err(), "{text}");
        }
        assert!(Rules::parse(table[0]).unwrap().0.is_empty());
    }

    #[test]
    fn a_rule_applies_when_it_says() {
        let text = "read#2 len=1; read* twice; write hold; ";
        let mut rules = Rules::parse(text).unwrap();
        assert_eq!(rules.at(Point::Read), [Action::Twice]);
        assert_eq!(rules.at(Point::Read), [Action::Length(1), Action::Twice]);
        assert_eq!(rules.at(Point::Read), [Action::Twice]);
        assert_eq!(rules.at(Point::Write), [Action::Hold]);
        assert_eq!(rules.at(Point::Write), []);
        assert_eq!(rules.at(Point::Login), []);
    }
}

// SPDX-License-Identifier: GPL-2.0

//! The text of login and discovery.

/// The name of the target.
pub const IQN: &str = "iqn.2026-01.lab.iser:hostile";
/// Largest data segment that we take, and so the most immediate data.
const RECEIVE_SEGMENT: u64 = 8192;

/// Reads `key=value` pairs, each ended by a zero byte.
pub fn pairs(data: &[u8]) -> Vec<(String, String)> {
    data.split(|byte| *byte == 0)
        .filter_map(|part| {
            let text = String::from_utf8_lossy(part);
            let (key, value) = text.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// Writes them.
pub fn text(pairs: &[(String, String)]) -> Vec<u8> {
    pairs
        .iter()
        .flat_map(|(key, value)| format!("{key}={value}\0").into_bytes())
        .collect()
}

fn smaller(offered: &str, ours: u64) -> String {
    offered
        .parse()
        .map_or(ours, |o: u64| o.min(ours))
        .to_string()
}

/// What a good target answers to the pairs of a login request.
pub fn answer(offered: &[(String, String)], security: bool) -> Vec<(String, String)> {
    let mut answers = Vec::new();
    if security || offered.iter().any(|(key, _)| key == "InitiatorName") {
        answers.push(("TargetPortalGroupTag".to_owned(), "1".to_owned()));
    }
    for (key, value) in offered {
        let ours = match key.as_str() {
            "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType" => continue,
            // Declared, not negotiated.
            "MaxRecvDataSegmentLength" => continue,
            "AuthMethod" | "HeaderDigest" | "DataDigest" => "None".to_owned(),
            "MaxConnections" | "MaxOutstandingR2T" => "1".to_owned(),
            "InitialR2T" | "DataPDUInOrder" | "DataSequenceInOrder" | "RDMAExtensions" => {
                "Yes".to_owned()
            }
            "ImmediateData" => value.clone(),
            "IFMarker" | "OFMarker" => "No".to_owned(),
            "MaxBurstLength" => smaller(value, 1 << 20),
            "FirstBurstLength" => smaller(value, RECEIVE_SEGMENT),
            "TargetRecvDataSegmentLength" => smaller(value, RECEIVE_SEGMENT),
            "InitiatorRecvDataSegmentLength" => smaller(value, 8192),
            "MaxOutstandingUnexpectedPDUs" => smaller(value, 16),
            // So that recovery is tried at once.
            "DefaultTime2Wait" | "DefaultTime2Retain" | "ErrorRecoveryLevel" => "0".to_owned(),
            "MaxAHSLength" => "0".to_owned(),
            "iSERHelloRequired" => "No".to_owned(),
            _ => "NotUnderstood".to_owned(),
        };
        answers.push((key.clone(), ours));
    }
    answers
}

/// Puts a pair in the place of the one of the same key, or behind all.
pub fn replace(answers: &mut Vec<(String, String)>, pair: &str) {
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    answers.retain(|(name, _)| name != key);
    answers.push((key.to_owned(), value.to_owned()));
}

/// The answer to SendTargets.
pub fn targets(portal: &str) -> Vec<u8> {
    text(&[
        ("TargetName".to_owned(), IQN.to_owned()),
        ("TargetAddress".to_owned(), format!("{portal},1")),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_read_and_written() {
        let read = pairs(b"A=1\0B=x=y\0\0junk\0C=");
        let owned = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        assert_eq!(read, [owned("A", "1"), owned("B", "x=y"), owned("C", "")]);
        assert_eq!(text(&read), b"A=1\0B=x=y\0C=\0");
    }

    #[test]
    fn every_offer_is_answered() {
        let offered = pairs(
            b"InitiatorName=i\0HeaderDigest=CRC32C,None\0MaxBurstLength=16776192\0\
              FirstBurstLength=4096\0X-what=1\0",
        );
        let mut answers = answer(&offered, false);
        let text = String::from_utf8(text(&answers)).unwrap();
        assert_eq!(
            text,
            "TargetPortalGroupTag=1\0HeaderDigest=None\0MaxBurstLength=1048576\0\
             FirstBurstLength=4096\0X-what=NotUnderstood\0"
        );
        replace(&mut answers, "HeaderDigest=CRC32C");
        assert_eq!(answers.len(), 5);
        assert_eq!(answers[4].1, "CRC32C");
    }
}

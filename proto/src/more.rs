//! Members of a frame that later versions add.

/// Members that a later version added, by number; the numbers ascend.
pub type More = Vec<(u16, Vec<u8>)>;

/// The member of `more` under `number`.
pub fn member(more: &More, number: u16) -> Option<&[u8]> {
    more.iter().find(|(other, _)| *other == number).map(|(_, value)| &value[..])
}
